"""Redis's channels as one node subscribes to them, each in the order of its numbers."""
