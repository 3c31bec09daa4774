"""Shared state with versions, and who is in it."""
