"""gunicorn's configuration: addresses, limits, and the hooks that start the embedded Redis.

Imports the standard library and what needs nothing else: the rest waits until a worker has been forked and patched.
HUP runs this file again, so nothing may be remembered here.
"""

import math
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Not `import config`: gunicorn takes every name in here that is one of its settings, and `config` is.
from config import SettingError, Settings  # noqa: E402
from stores import embedded  # noqa: E402

try:
    settings = Settings.from_env()
except SettingError as error:
    raise SystemExit(f"mintflow: {error}") from None

bind = f"0.0.0.0:{settings.port}"
workers = settings.web_concurrency
worker_class = "transport.worker.Worker"
# The gevent worker stops accepting at this number. max_connections is the limit that answers politely, so it comes
# first; the rest is for requests beside the connections.
worker_connections = settings.max_connections + 1000
# Seconds from SIGTERM to SIGKILL: connections are closed over some, and the slowest call ends in ten.
graceful_timeout = math.ceil(settings.drain_seconds) + 12
loglevel = settings.log_level
errorlog = "-"
accesslog = None
# By default gunicorn opens one that takes commands, under the home directory.
control_socket_disable = True


def _refuse(server: Any, sentence: object) -> NoReturn:
    print(f"mintflow: {sentence}", file=sys.stderr, flush=True)
    if server.pidfile is not None:
        server.pidfile.unlink()
    raise SystemExit(1)


def on_starting(server: Any) -> None:
    """Refuse what can't work, raise the descriptor limit, and see that the embedded Redis runs."""
    if server.cfg.is_ssl:
        _refuse(server, "certfile and keyfile must not be set: TLS ends at nginx.")
    if server.cfg.preload_app:
        _refuse(server, "preload_app must stay off: the application is loaded after the fork.")
    _raise_descriptor_limit()
    if settings.embedded:
        try:
            # Both descriptors stay open until this process ends.
            embedded.hold_master_lock(settings.data_dir)
            embedded.hold_users_lock(settings.data_dir)
            embedded.ensure_running(settings.data_dir)
        except embedded.EmbeddedRedisError as error:
            _refuse(server, error)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # a system whose hard limit is above what it grants


def on_reload(server: Any) -> None:
    """Start the supervisor of the embedded Redis again where it was killed."""
    if settings.embedded:
        try:
            embedded.ensure_running(settings.data_dir)
        except embedded.EmbeddedRedisError as error:
            server.log.error("%s", error)


def post_fork(server: Any, worker: Any) -> None:
    """Leave the master's signals and lock to the master; the users' lock is the worker's too."""
    # Until its class sets its own, a worker has the master's handlers, which queue a signal for a loop that it has not:
    # one that is told to stop while it loads would forget it, and be killed after graceful_timeout.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    if settings.embedded:
        embedded.drop_master_lock(settings.data_dir)


def pre_exec(server: Any) -> None:
    """Hand the master's lock to the master that USR2 starts."""
    if settings.embedded:
        embedded.pass_master_lock(settings.data_dir)


def when_ready(server: Any) -> None:
    """Tell where the server is."""
    for listener in server.LISTENERS:
        name = listener.getsockname()
        if not isinstance(name, tuple):
            continue
        address = f"http://127.0.0.1:{name[1]}"
        for path in ("", settings.socket_path, "/api/v1", "/readyz"):
            server.log.info("%s%s", address, path)
