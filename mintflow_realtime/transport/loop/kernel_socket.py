"""Sockets that gevent knows nothing of: the poller watches them, and nothing else waits for them."""

import _socket
import os
import socket
from typing import Any


def kernel_socket(descriptor: int, family: int) -> Any:
    """Return a non-blocking socket that gevent knows nothing of; it owns `descriptor` from now on."""
    sock = _socket.socket(family, socket.SOCK_STREAM, 0, descriptor)
    sock.setblocking(False)
    return sock


def duplicate(sock: Any) -> Any:
    """Return gevent's socket `sock` as one that it knows nothing of; its own is then closed without a shutdown."""
    return kernel_socket(os.dup(sock.fileno()), sock.family)
