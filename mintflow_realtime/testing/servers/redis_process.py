"""The Redis of one test server, which tests may stop, kill and hang."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import redis

from mintflow_realtime.stores.embedded.embedded import SOCKET, ping
from mintflow_realtime.stores.embedded.redis_server import Refused, choose_server, installed_servers
from mintflow_realtime.testing.servers.processes import Process

START_SECONDS = 10.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005
# A test that hangs Redis for longer has forgotten the unit.
MAX_HANG_SECONDS = 600.0

# Keys are `prefix:{tenant}:what:…`, and no tenant has a brace in it.
_CLEAR = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  if not string.find(key, '^[^{]*{[^}]*}:head:') then redis.call('UNLINK', key) end
end
"""


class RedisError(RuntimeError):
    """There is no Redis for the tests; the text is a sentence for the person who runs them."""


class RedisProcess:
    """A real Redis on a UNIX socket in `directory`. What was written outlives `stop` and `start`, as in production."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: Process | None = None
        self._waking: threading.Timer | None = None
        self.url = f"unix://{quote(str(directory / SOCKET))}"

    def start(self) -> None:
        """Start it, and return once it answers. Does nothing where it runs. Raises RedisError."""
        if self.running:
            return
        self.kill()
        try:
            program, _ = choose_server(installed_servers(), None)
        except Refused as refusal:
            raise RedisError(f"The test server needs a Redis. {refusal}") from None
        self.directory.mkdir(mode=0o700, exist_ok=True)
        output = self.directory / "redis.log"
        command = [program, "--port", "0", "--unixsocket", str(self.directory / SOCKET), "--unixsocketperm", "700"]
        command += ["--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        self._process = Process([*command, "--daemonize", "no"], output)
        deadline = time.monotonic() + START_SECONDS
        while not ping(self.directory).startswith(b"+PONG"):
            if self._process.code is not None or time.monotonic() > deadline:
                said = output.read_text(errors="replace").strip().splitlines()[-1:]
                self.kill()
                raise RedisError(f"{program} did not start: {said[0] if said else 'it said nothing'}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it as an administrator does: what was written is kept for `start`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does: the writes of the last second may be lost."""
        self._end(signal.SIGKILL)

    def hang(self, seconds: float) -> None:
        """Let it stand still for `seconds` from now, connections and all; returns at once. `resume` ends it earlier."""
        if not 0 < seconds <= MAX_HANG_SECONDS:
            raise ValueError(f"hang takes seconds above 0 and up to {MAX_HANG_SECONDS:.0f}, not {seconds!r}")
        if self._process is None:
            raise RedisError("The Redis of this test server is stopped: it can't hang.")
        self._cancel_waking()
        self._process.send(signal.SIGSTOP)
        self._waking = threading.Timer(seconds, self._process.send, (signal.SIGCONT,))
        self._waking.daemon = True
        self._waking.start()

    def resume(self) -> None:
        """End a `hang`."""
        self._cancel_waking()
        if self._process is not None:
            self._process.send(signal.SIGCONT)

    def flush(self) -> None:
        """Lose everything, as a Redis without a disk does that starts anew: clients are told to `resync`."""
        with self.client() as client:
            client.flushall()

    def clear(self) -> None:
        """Forget what applications see, at once: only how far each tenant's events are numbered is kept.

        A running node goes by that number, and a client that connects later recovers from there.
        """
        with self.client() as client:
            client.eval(_CLEAR, 0)

    def client(self) -> "redis.Redis":
        """Return a client of one's own, to look at what is stored or to break it; close it, or use it in a `with`."""
        return redis.Redis(unix_socket_path=str(self.directory / SOCKET), socket_timeout=5)

    @property
    def pid(self) -> int:
        """Its process id. Raises RedisError where it is stopped."""
        if self._process is None:
            raise RedisError("The Redis of this test server is stopped.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started, and did not end since; one that hangs runs."""
        return self._process is not None and self._process.code is None

    def _end(self, number: int) -> None:
        self._cancel_waking()
        if self._process is not None:
            self._process.end(number, STOP_SECONDS)
            self._process = None
        with suppress(FileNotFoundError):
            (self.directory / SOCKET).unlink()

    def _cancel_waking(self) -> None:
        if self._waking is not None:
            self._waking.cancel()
            self._waking.join()
            self._waking = None
