"""AI requests, their streams and conversations."""
