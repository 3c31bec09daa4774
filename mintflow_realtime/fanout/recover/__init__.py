"""What a client that comes back has missed."""
