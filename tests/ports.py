"""Ports that no two test processes have at once: a socket stays bound to each, and a server may listen beside it.

On Linux, sockets with SO_REUSEADDR share an address as long as at most one of them listens; whoever binds without it,
as `free_port` does of whatever process, is refused. So what is taken stays taken, also while a server is restarted.
"""

import contextlib
import os
import random
import socket
from collections import deque

# Below those that the kernel gives to clients: one of them may come first, seconds later.
_PORTS = range(10_240, 32_768)
# Of a Redis Cluster's member, its bus 10,000 higher.
_MEMBERS = range(12_000, 22_000)
BUS = 10_000
# As many as a process keeps; those before belong to servers that listen themselves, or are gone.
MAX_HELD = 200

_held: deque[int] = deque()
_random = random.SystemRandom()


def free_port() -> int:
    """Return a port that is this process's."""
    return _take(_PORTS)


def free_member_port() -> int:
    """Return a port that is this process's, as is that of the cluster bus above it."""
    return _take(_MEMBERS, BUS)


def held_descriptors() -> set[int]:
    """Return the file descriptors that keep ports; they are no leak."""
    return set(_held)


def _take(ports: range, *offsets: int) -> int:
    for _ in range(10_000):
        port = _random.choice(ports)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            sockets = [stack.enter_context(_bound(port + offset)) for offset in (0, *offsets)]
            _held.extend(one.detach() for one in sockets)
            while len(_held) > MAX_HELD:
                os.close(_held.popleft())
            return port
    raise AssertionError("no port is free")


def _bound(port: int) -> socket.socket:
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        raise
    # Only now, so that the bind was refused where another holds the port.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return one
