"""The process that runs the embedded Redis: starts, restarts and stops it. Standard library only.

It holds `lock` for its life, and stops when it can lock `users`: nobody has that file open any more.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from mintflow_realtime.stores.embedded.embedded import LOCK, LOG, SOCKET, USERS, flock_or_none, ping, wait_for_flock
from mintflow_realtime.stores.embedded.redis_server import (
    VERSION,
    Refused,
    Version,
    choose_server,
    dotted,
    installed_servers,
    recorded_version,
)
from mintflow_realtime.unix_paths import too_long

PID = "redis.pid"
# Held by Redis itself, which inherits the descriptor: free only when no process of it is left.
ALIVE = "redis-alive"

TICK_SECONDS = 0.1
GRACE_SECONDS = 1.0
RESTART_SECONDS = 0.5
ANSWER_SECONDS = 9.0  # less than embedded.START_SECONDS, so that the sentence still finds its reader
STOP_SECONDS = 10.0
LOG_BYTES = 10 * 1024 * 1024


class Supervisor:
    """One Redis on one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = ""
        self._alive = -1
        self._log = -1
        self._users = -1
        self._redis: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def run(self) -> None:
        """Run Redis until nobody uses it. Returns at once where another supervisor does, and tells a refusal."""
        lock = flock_or_none(self._directory / LOCK, fcntl.LOCK_EX)
        if lock is None:
            return
        try:
            self._start()
        except (Refused, OSError) as refusal:
            self._say(str(refusal))
            self._stop_redis()
            _tell_starter(str(refusal))
            return
        _tell_starter("")
        self._watch()
        self._stop_redis()
        # Before `users`, which the exit frees: who waits for that one must not find this lock held by a dead end.
        os.close(lock)

    def _start(self) -> None:
        os.umask(0o077)
        self._log = os.open(self._directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(self._log, 2)
        self._users = os.open(self._directory / USERS, os.O_RDWR | os.O_CREAT, 0o600)
        self._alive = self._end_orphan()
        self._server, version = choose_server(installed_servers(), recorded_version(self._directory))
        self._record_version(version)
        self._start_redis()
        deadline = time.monotonic() + ANSWER_SECONDS
        while not ping(self._directory).startswith((b"+PONG", b"-LOADING")):
            code = self._redis.poll() if self._redis else None
            if code is not None:
                raise Refused(f"{self._server} ended with code {code}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise Refused(f"{self._server} did not answer in time; see {self._directory / LOG}.")
            time.sleep(TICK_SECONDS / 5)

    def _end_orphan(self) -> int:
        """Lock ALIVE, and end a Redis that outlived its supervisor: two on one append-only file would ruin it."""
        patience = 0.0
        for step, seconds in ((signal.SIGTERM, STOP_SECONDS / 2), (signal.SIGKILL, 2.0), (None, 0.0)):
            alive = wait_for_flock(self._directory / ALIVE, fcntl.LOCK_EX, patience)
            if alive is not None:
                return alive
            # While ALIVE is held, the number can't have gone to another process.
            with suppress(OSError, ValueError):
                if step is not None:
                    os.kill(int((self._directory / PID).read_text()), step)
            patience = seconds
        raise Refused(f"A Redis without a supervisor runs on DATA_DIR {self._directory} and does not end; stop it.")

    def _record_version(self, version: Version) -> None:
        new = self._directory / f"{VERSION}.new"
        new.write_text(f"{dotted(version)}\n")
        os.replace(new, self._directory / VERSION)

    def _start_redis(self) -> None:
        if os.fstat(self._log).st_size > LOG_BYTES:
            os.ftruncate(self._log, 0)
        self._started = time.monotonic()
        # Redis is in its directory when it binds a socket that it is told of without one.
        path = str(self._directory / SOCKET)
        self._redis = subprocess.Popen(
            [self._server, "--port", "0", "--unixsocket", SOCKET if too_long(path) else path]
            + ["--unixsocketperm", "700"]
            + ["--dir", str(self._directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
            + ["--maxmemory-policy", "noeviction", "--daemonize", "no"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(self._alive,),
            preexec_fn=_end_with_parent,
        )
        with suppress(OSError):
            (self._directory / PID).write_text(str(self._redis.pid))
        self._say(f"started {self._server} with pid {self._redis.pid}")

    def _watch(self) -> None:
        """Keep Redis running; return, with `users` locked, when nobody has used it for a second."""
        idle_since: float | None = None
        while True:
            now = time.monotonic()
            code = self._redis.poll() if self._redis else None
            if code is not None and now - self._started >= RESTART_SECONDS:
                self._say(f"Redis ended with code {code}")
                with suppress(OSError):
                    self._start_redis()
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                idle_since = None
            else:
                idle_since = now if idle_since is None else idle_since
                if now - idle_since >= GRACE_SECONDS:
                    return
                fcntl.flock(self._users, fcntl.LOCK_UN)
            time.sleep(TICK_SECONDS)

    def _stop_redis(self) -> None:
        if self._redis is None:
            return
        self._redis.terminate()
        try:
            self._redis.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._redis.kill()
            self._redis.wait()
        self._say("stopped Redis")

    def _last_line(self) -> str:
        with open(self._directory / LOG, "rb") as log:
            log.seek(max(0, os.fstat(self._log).st_size - 2048))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _say(self, text: str) -> None:
        # A full disk must not end the one that restarts Redis.
        with suppress(OSError):
            print(time.strftime("%Y-%m-%d %H:%M:%S"), "supervisor:", text, file=sys.stderr, flush=True)


def _tell_starter(sentence: str) -> None:
    """Write `sentence` to stdout, which the starter reads to its end, and leave stdout."""
    with suppress(OSError):
        os.write(1, sentence.encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.close(nowhere)


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies by SIGKILL (prctl(2), PR_SET_PDEATHSIG = 1)."""
    if _libc is not None:
        _libc.prctl(1, signal.SIGTERM)


def main(argv: list[str]) -> int:
    """Supervise the directory named in `argv`, in the background: an orphan needs no starter to reap it."""
    if len(argv) != 2:
        print("usage: python -m mintflow_realtime.stores.embedded.supervisor DATA_DIR", file=sys.stderr)
        return 2
    directory = Path(argv[1]).absolute()
    if os.fork():
        os._exit(0)
    # `systemctl stop` signals every process at once: workers that drain need Redis until the last of them is gone.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    os.chdir(directory)
    Supervisor(directory).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
