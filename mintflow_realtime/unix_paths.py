"""UNIX sockets in directories whose paths are too long for them: unix(7) allows 107 bytes. Standard library only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MOST_BYTES = 107


def too_long(path: str) -> bool:
    """Tell whether no socket can be bound or connected to by this path."""
    return len(os.fsencode(path)) > MOST_BYTES


@contextmanager
def short(path: str) -> Iterator[str]:
    """Yield a path of the same file that a socket can be bound or connected by, within this process and this context.

    A long one goes by the descriptor of its directory: nothing is made elsewhere that others could take the place of.
    Raises OSError where there is no such directory.
    """
    if not too_long(path):
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
