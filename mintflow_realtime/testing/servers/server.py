"""An application under the real worker, for tests: its own port, its own Redis, and faults on demand."""

import atexit
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mintflow_realtime.testing.servers.application import name_of
from mintflow_realtime.testing.servers.gunicorn_process import GunicornProcess, ServerError
from mintflow_realtime.testing.servers.processes import Port, make_directory, remove_directory
from mintflow_realtime.testing.servers.redis_process import RedisProcess
from mintflow_realtime.testing.servers.settings import ServerSettings

if TYPE_CHECKING:
    from mintflow_realtime.emitter import Emitter
    from mintflow_realtime.testing.clients.client import RealtimeClient

# What only the extra brings, one module for each of its parts.
NEEDED = ("gunicorn", "gevent", "flask", "jwt", "wsproto")
RESET_SECONDS = 15.0
# How long one try of a client may take while the server begins to serve.
SERVES_SECONDS = 5.0


class RealtimeServer:
    """Runs `application` under gunicorn with our worker; use it as a context manager, or `start` and `stop` it.

    `application` is a name as gunicorn takes it (`shop:application`, `shop:create_app()`), or a function or object that
    a module has: the server's processes import it by that name. `settings` are those of the README's table, `env` is
    added to the environment. `tenants` are those that `api_key` knows. Everything is ended with this process.
    """

    def __init__(
        self,
        application: object,
        *,
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        workers: int = 1,
        tenants: Sequence[str] = ("acme", "globex"),
        start_seconds: float = 30.0,
    ) -> None:
        self.application = name_of(application)
        self.start_seconds = start_seconds
        self._worker_count = workers
        self._given, self._env, self._tenants = dict(settings or {}), dict(env or {}), tuple(tenants)
        self._running: ExitStack | None = None
        self._gunicorn: GunicornProcess | None = None
        self._emitter: Emitter | None = None
        self._clients: list[RealtimeClient] = []
        self._log = ""
        self.log_mark = 0
        """Where in `log` the present test began, for who shows only that."""

    def start(self) -> "RealtimeServer":
        """Start Redis and the application, and return once it serves.

        Raises ServerError, SettingError, RedisError, and ImportError where the package was installed without its extra.
        """
        if self._running is not None:
            raise ServerError(f"{self.application} runs already.")
        for needed in NEEDED:
            if find_spec(needed) is None:
                raise ImportError(
                    f"A test server needs {needed}: pip install 'mintflow-realtime[testing]'", name=needed
                )
        with ExitStack() as stack:
            directory = make_directory()
            stack.callback(remove_directory, directory)
            port = Port()
            stack.callback(port.close)
            self.url = f"http://127.0.0.1:{port.number}"
            self.redis = RedisProcess(directory / "redis")
            self._settings = ServerSettings(
                self._given,
                self._tenants,
                PORT=str(port.number),
                WEB_CONCURRENCY=str(self._worker_count),
                DATA_DIR=str(directory / "data"),
                REDIS_URL=self.redis.url,
            )
            stack.callback(self.redis.kill)
            self.redis.start()
            environment = self._settings.environment(self._env)
            self._gunicorn = GunicornProcess(self.application, directory, port, environment)
            stack.callback(self._end)
            self._gunicorn.wait(self._all_serve, self.start_seconds, "serve")
            self._check_redis(self._gunicorn)
            self._running = stack.pop_all()
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        return self

    def stop(self) -> None:
        """End the clients, the application and Redis, and remove what they wrote; `log` stays. May come twice."""
        if self._running is not None:
            self._running.close()
            self._running = None
            atexit.unregister(self._stop_at_exit)

    def reset(self) -> None:
        """Close the clients, start or wake Redis, and forget everything: as it was after `start`, for the next test.

        Raises ServerError, for one that can't be used any more.
        """
        gunicorn = self._expect_running()
        self._close_clients()
        self.redis.resume()
        self.redis.start()
        self.redis.clear()
        gunicorn.wait(self._all_serve, RESET_SECONDS, "serve again")

    def __enter__(self) -> "RealtimeServer":
        return self if self._running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        return self._log if self._gunicorn is None else self._gunicorn.log

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that have loaded the application."""
        return self._expect_running().workers

    @property
    def emitter(self) -> "Emitter":
        """An Emitter on this server's Redis, with its settings, as a Celery task would have one."""
        from mintflow_realtime.emitter import Emitter
        from mintflow_realtime.settings.settings import Settings

        self._expect_running()
        if self._emitter is None:
            self._emitter = Emitter(settings=Settings.from_env(self._settings.values))
        return self._emitter

    def token(self, user: str = "ann", tenants: Sequence[str] = ("acme",), **claims: Any) -> str:
        """Return a JWT of an hour for `user`; `scope="flows:read"` and other claims are added, None leaves one out."""
        self._expect_running()
        return self._settings.token(user, tenants, claims)

    def api_key(self, tenant: str = "acme") -> str:
        """Return the key with which `tenant` calls the HTTP API (`X-API-Key`). Raises ValueError for an unknown one."""
        self._expect_running()
        return self._settings.api_key(tenant)

    def client(self, namespace: str = "/", **options: Any) -> "RealtimeClient":
        """Return a connected client of `namespace`; `options` are RealtimeClient's. Raises what refused it."""
        from mintflow_realtime.testing.clients.client import RealtimeClient

        self._expect_running()
        options.setdefault("path", self._settings.socket_path)
        client = RealtimeClient(self.url, namespace, **options)
        self._clients.append(client)
        return client

    def kill_worker(self, pid: int | None = None, *, seconds: float = 30.0) -> int:
        """Kill a worker (the first, or `pid`) as the kernel would, and return its pid once the next one serves.

        Raises ServerError.
        """
        gunicorn = self._expect_running()
        before = gunicorn.workers
        killed = pid if pid is not None else next(iter(before), 0)
        if killed not in before:
            known = ", ".join(map(str, before)) or "none"
            raise ServerError(f"{killed} is no worker of {self.application}; the workers are {known}.")
        os.kill(killed, signal.SIGKILL)
        gunicorn.wait(lambda: killed not in gunicorn.workers and self._all_serve(), seconds, "replace its worker")
        return killed

    def reload(self, *, seconds: float = 60.0) -> None:
        """Let gunicorn load the application anew (HUP); return once new workers serve and the old have drained.

        Raises ServerError.
        """
        gunicorn = self._expect_running()
        old = set(gunicorn.workers)
        gunicorn.reload()
        gunicorn.wait(lambda: not old.intersection(gunicorn.workers) and self._all_serve(), seconds, "reload")

    def _all_serve(self) -> bool:
        """Tell whether all workers are there and a client is let in: a node that isn't ready answers 503."""
        from mintflow_realtime.testing.clients.connection import connect
        from mintflow_realtime.testing.clients.engine import NotConnected

        assert self._gunicorn is not None
        if len(self._gunicorn.workers) < self._worker_count:
            return False
        try:
            connect(self.url, self._settings.socket_path, self._settings.transports, {}, {}, SERVES_SECONDS).close()
        except NotConnected:
            return False
        return True

    def _check_redis(self, gunicorn: GunicornProcess) -> None:
        with self.redis.client() as client:
            others = len(client.client_list()) - 1
        if not others:
            raise ServerError(
                f"{self.application} does not use the Redis of this test server: its own configuration names another, "
                "which comes before REDIS_URL of the environment. Let it read that in tests." + gunicorn.tail()
            )

    def _end(self) -> None:
        self._close_clients()
        if self._emitter is not None:
            self._emitter.close()
            self._emitter = None
        if self._gunicorn is not None:
            self._gunicorn.end(at_once=self._running is None)
            self._log, self._gunicorn = self._gunicorn.log, None

    def _stop_at_exit(self) -> None:
        # Not in a fork, whose parent still uses it.
        if os.getpid() == self._owner:
            self.stop()

    def _close_clients(self) -> None:
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def _expect_running(self) -> GunicornProcess:
        if self._running is None or self._gunicorn is None:
            raise ServerError(f"The server of {self.application} does not run: call start(), or use it in a `with`.")
        return self._gunicorn
