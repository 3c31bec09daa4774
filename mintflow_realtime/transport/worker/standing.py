"""How a worker stands, told to the master by the length of the file with which gunicorn watches whether it lives.

The file has no name and belongs to that one worker; both have it open from before the fork.
"""

import os
from typing import Any

SERVES, WANTS_TO_GO = 1, 2


def tell(worker: Any, standing: int) -> None:
    """Say, in a worker, how it stands."""
    os.ftruncate(worker.tmp.fileno(), standing)
    # A changed length sets the file's time too, which to the master is when the worker was heard last.
    worker.tmp.notify()


def serves(worker: Any) -> bool:
    """Tell, in the master, whether a worker serves. One of another class doesn't say, and counts as serving."""
    return not hasattr(worker, "others_serve") or _of(worker) >= SERVES


def wants_to_go(worker: Any) -> bool:
    """Tell, in the master, whether a worker serves until another has taken its place."""
    return hasattr(worker, "others_serve") and _of(worker) >= WANTS_TO_GO


def _of(worker: Any) -> int:
    try:
        return os.fstat(worker.tmp.fileno()).st_size
    except (OSError, ValueError):
        return 0  # closed: the worker has ended
