"""Redis clients and URLs."""
