"""Blocking Socket.IO clients for tests, on plain sockets and threads."""
