"""DATA_DIR as a place: whether it can be written to, and by whom, as workers may run as another user (`--user`)."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mintflow_realtime.stores.embedded import embedded
from mintflow_realtime.stores.embedded.embedded import EmbeddedRedisError, sentences

# Where workers find each other.
WORKERS = "workers"


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Do as another user what is done within, so that files that are made are theirs; nothing where it is the same."""
    if _is_own(uid):
        yield
        return
    own_group = os.getegid()
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)


def give_directory(data_dir: str | os.PathLike[str], uid: int, gid: int) -> None:
    """Make DATA_DIR for another user, or see that it is theirs. Raises EmbeddedRedisError."""
    if _is_own(uid):
        return
    directory = Path(data_dir).absolute()
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            os.chown(directory, uid, gid)
        owner = directory.stat().st_uid
    except OSError as error:
        raise EmbeddedRedisError(f"DATA_DIR {directory} can't be used: {error}.") from error
    if owner != uid:
        name = _name(uid)
        raise EmbeddedRedisError(
            f"DATA_DIR {directory} is {_name(owner)}'s, and the workers run as {name}: `chown -R {name} {directory}`."
        )


def make_workers_directory(data_dir: str | os.PathLike[str]) -> str:
    """Make the directory where workers of DATA_DIR find each other, and return its path. Raises EmbeddedRedisError."""
    directory = Path(data_dir).absolute()
    workers = directory / WORKERS
    with sentences(directory):
        workers.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(workers, os.W_OK | os.X_OK):
            raise PermissionError(f"{workers} can't be written to")
    return str(workers)


def check_place(data_dir: str | os.PathLike[str]) -> None:
    """See that DATA_DIR can be written to, or made, by this process's user; make nothing. Raises EmbeddedRedisError."""
    directory = place = Path(data_dir).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with sentences(directory):
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(f"{place} can't be written to")


def ensure_running_as(data_dir: str | os.PathLike[str], uid: int, gid: int) -> None:
    """Start or adopt the Redis of `data_dir` as a user. Raises EmbeddedRedisError."""
    if _is_own(uid):
        embedded.ensure_running(data_dir)
        return
    command = [sys.executable, "-m", embedded.__name__, str(Path(data_dir).absolute())]
    ended = subprocess.run(
        command, cwd=embedded.ROOT, capture_output=True, text=True, user=uid, group=gid, extra_groups=[gid]
    )
    if ended.returncode:
        sentence = (ended.stderr.strip().splitlines() or ["The embedded Redis did not start."])[-1]
        raise EmbeddedRedisError(sentence.removeprefix("mintflow: "))


def _is_own(uid: int) -> bool:
    # Only root becomes another.
    return os.geteuid() == uid or os.geteuid() != 0


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
