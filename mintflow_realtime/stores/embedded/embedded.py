"""The embedded Redis as those who need it see it: start or adopt it, and hold the locks that keep it running.

State is found by files and flocks in DATA_DIR, never by a variable: HUP and USR2 forget those. Standard library only,
since gunicorn's master imports this before it forks.
"""

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mintflow_realtime.unix_paths import short

LOCK = "lock"
USERS = "users"
MASTER = "master"
SOCKET = "redis.sock"
LOG = "redis.log"

START_SECONDS = 10.0
# A stopping Redis gets 10 s before it is killed (supervisor.STOP_SECONDS); whoever starts meanwhile waits for the end.
STOPPING_SECONDS = 15.0
MASTER_SECONDS = 5.0
POLL_SECONDS = 0.05

# Where this package is imported from: its own folder may be a link.
ROOT = Path(__file__).resolve().parents[3]


class EmbeddedRedisError(RuntimeError):
    """The embedded Redis can't be had; the text is a sentence for the person who started the server."""


def url(data_dir: str | os.PathLike[str]) -> str:
    """Return the `unix://` URL of the Redis in `data_dir`, whether it runs or not."""
    return f"unix://{quote(str(Path(data_dir).absolute() / SOCKET))}"


def ensure_running(data_dir: str | os.PathLike[str]) -> str:
    """Start the Redis of `data_dir`, or adopt the one that runs, and return its URL once it answers.

    One that still loads its files after 10 s counts as running. Nothing keeps it running but `hold_users_lock`: take
    that first, or within a second. Raises EmbeddedRedisError.
    """
    directory = Path(data_dir).absolute()
    with sentences(directory):
        # For as long as this takes, the supervisor can't find that nobody is left, and stop what is returned here.
        users = hold_users_lock(directory)
        try:
            _await_answer(directory)
        finally:
            os.close(users)
    return url(directory)


def revive(data_dir: str | os.PathLike[str]) -> None:
    """Start the Redis of `data_dir` again where it does not answer, as after the end of its supervisor.

    For who holds the users' lock; every worker may do so at once. Raises EmbeddedRedisError.
    """
    if not ping(Path(data_dir).absolute()):
        ensure_running(data_dir)


def _await_answer(directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    answer = b""
    while (left := deadline - time.monotonic()) > 0:
        if is_locked(directory / LOCK):
            answer = ping(directory)
            if answer.startswith(b"+PONG"):
                return
            time.sleep(POLL_SECONDS)
        else:
            # An answer without a supervisor is that of an orphan on its way out.
            sentence = _spawn_supervisor(directory, left)
            if sentence:
                raise EmbeddedRedisError(sentence)
    if not answer.startswith(b"-LOADING"):
        raise EmbeddedRedisError(
            f"The embedded Redis did not answer within {START_SECONDS:.0f} s; see {directory / LOG}."
        )


def _spawn_supervisor(directory: Path, seconds: float) -> str:
    """Start a supervisor and return why it refused: empty when Redis runs, or another supervisor was quicker."""
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "mintflow_realtime.stores.embedded.supervisor", str(directory)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is sent to the terminal's foreground group, and must not reach it
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"The embedded Redis did not start within {START_SECONDS:.0f} s; see {directory / LOG}."
    if ended.returncode:
        return f"The supervisor of the embedded Redis ended with code {ended.returncode}."
    return ended.stdout.decode(errors="replace").strip()


def hold_users_lock(data_dir: str | os.PathLike[str]) -> int:
    """Keep the Redis of `data_dir` running for as long as the returned descriptor is open, in this process or a fork.

    Waits while a Redis that nobody used is stopping, at most 15 s. Raises EmbeddedRedisError.
    """
    directory = Path(data_dir).absolute()
    with sentences(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = wait_for_flock(directory / USERS, fcntl.LOCK_SH, STOPPING_SECONDS)
    if held is None:
        raise EmbeddedRedisError(f"The Redis of DATA_DIR {directory} is stopping, and did not end in time.")
    return held


def hold_master_lock(data_dir: str | os.PathLike[str]) -> int:
    """Be the one gunicorn master of `data_dir` for as long as the returned descriptor is open.

    A master that USR2 started takes over the descriptor that its parent passed on. Waits 5 s for one that is just
    ending. Raises EmbeddedRedisError where another master runs.
    """
    directory = Path(data_dir).absolute()
    with sentences(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for inherited in _open_descriptors(directory / MASTER):
            fcntl.flock(inherited, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.set_inheritable(inherited, False)
            return inherited
        held = wait_for_flock(directory / MASTER, fcntl.LOCK_EX, MASTER_SECONDS)
    if held is None:
        raise EmbeddedRedisError(
            f"Another server runs on DATA_DIR {directory}; stop it first, or give this one a DATA_DIR of its own."
        )
    return held


def pass_master_lock(data_dir: str | os.PathLike[str]) -> None:
    """Let the master's lock survive the exec that follows; call it in the forked child alone."""
    for held in _open_descriptors(Path(data_dir).absolute() / MASTER):
        os.set_inheritable(held, True)


def drop_master_lock(data_dir: str | os.PathLike[str]) -> None:
    """Close a worker's copy of the master's lock, which would outlive a killed master."""
    for held in _open_descriptors(Path(data_dir).absolute() / MASTER):
        os.close(held)


def _open_descriptors(path: Path) -> list[int]:
    """Return this process's descriptors of the file at `path`."""
    try:
        wanted = os.stat(path)
    except FileNotFoundError:
        return []
    found = []
    for name in os.listdir("/dev/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), wanted):
                found.append(int(name))
        except OSError:
            continue  # the listing's own descriptor, closed by now
    return found


def flock_or_none(path: Path, operation: int) -> int | None:
    """Open and lock `path` (LOCK_SH or LOCK_EX); return the descriptor, or None where another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def wait_for_flock(path: Path, operation: int, seconds: float) -> int | None:
    """Do as `flock_or_none`, and try again for `seconds`."""
    deadline = time.monotonic() + seconds
    while (descriptor := flock_or_none(path, operation)) is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return descriptor


def is_locked(path: Path) -> bool:
    """Tell whether another holds the lock. A supervisor that starts in this very moment gives way: try again."""
    descriptor = flock_or_none(path, fcntl.LOCK_EX)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def ping(directory: Path) -> bytes:
    """Return what Redis answers to PING, `+PONG` or `-LOADING …`; nothing where it doesn't within a second."""
    try:
        with socket.socket(socket.AF_UNIX) as connection, short(str(directory / SOCKET)) as path:
            connection.settimeout(1.0)
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            return connection.recv(64)
    except OSError:
        return b""


@contextmanager
def sentences(directory: Path) -> Iterator[None]:
    """Raise what the system says of DATA_DIR as EmbeddedRedisError."""
    try:
        yield
    except OSError as error:
        raise EmbeddedRedisError(f"DATA_DIR {directory} can't be used: {error}.") from error


def main(argv: list[str]) -> int:
    """Start or adopt the Redis of the directory named in `argv` and print its URL; it stops when nobody uses it."""
    if len(argv) != 2:
        print("usage: python -m mintflow_realtime.stores.embedded.embedded DATA_DIR", file=sys.stderr)
        return 2
    try:
        print(ensure_running(argv[1]))
    except EmbeddedRedisError as error:
        print(f"mintflow: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
