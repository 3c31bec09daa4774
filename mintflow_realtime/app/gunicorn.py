"""gunicorn's configuration: addresses, limits, and the hooks that start the embedded Redis.

Imports the standard library and what needs nothing else: the rest waits until a worker has been forked and patched.
HUP runs this file again, so nothing may be remembered here.
"""

import math
import os
import resource
import signal
import subprocess
import sys
from typing import Any, NoReturn

from mintflow_realtime.app.addresses import bind_addresses
from mintflow_realtime.settings.settings import SettingError, Settings, origins
from mintflow_realtime.stores.embedded import data_dir, embedded

try:
    settings = Settings.from_env()
except SettingError as error:
    raise SystemExit(f"mintflow: {error}") from None

# Only the environment is known before a worker loads the application, whose own configuration may name a Redis and a
# place. So nothing is begun in a place that nobody has named: the workers see to theirs.
names_place = origins(None, os.environ)["DATA_DIR"] != "default"

bind = bind_addresses(settings.host, settings.port)
forwarded_allow_ips = ",".join(settings.forwarded_allow_ips)
workers = settings.web_concurrency
worker_class = "mintflow_realtime.transport.worker.gunicorn_worker.Worker"
# The gevent worker stops accepting at this number. max_connections is the limit that answers politely, so it comes
# first; the rest is for requests beside the connections.
worker_connections = settings.max_connections + 1000
# Seconds from SIGTERM to SIGKILL: connections are closed over some, and the slowest call ends in ten.
graceful_timeout = math.ceil(settings.drain_seconds) + 12
# Seconds that a connection is kept for its next request: more than the minute for which nginx keeps its own to us.
# gunicorn's 2 s would cut each of them between two polls.
keepalive = 75
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
    """Refuse what can't work, and see that the embedded Redis of a DATA_DIR in the environment runs."""
    if server.cfg.is_ssl:
        _refuse(server, "certfile and keyfile must not be set: TLS ends at nginx.")
    if server.cfg.preload_app:
        _refuse(server, "preload_app must stay off: the application is loaded after the fork.")
    _check_public_key(server)
    _raise_descriptor_limit()
    if names_place:
        try:
            _prepare_place(server.cfg.uid, server.cfg.gid)
        except embedded.EmbeddedRedisError as error:
            _refuse(server, error)


def _check_public_key(server: Any) -> None:
    """Refuse a JWT_PUBLIC_KEY that is none; in another process, since this one may not import what reads it."""
    if settings.jwt_public_key is None:
        return
    command = [sys.executable, "-m", "mintflow_realtime.app.keys"]
    # Where gunicorn's own settings have added to it.
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        checked = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return  # each worker looks as well
    sentence = checked.stderr.strip().rpartition("\n")[2]
    if checked.returncode and sentence.startswith("mintflow: "):
        _refuse(server, sentence.removeprefix("mintflow: "))


def _prepare_place(uid: int, gid: int) -> None:
    path = settings.data_dir
    data_dir.give_directory(path, uid, gid)
    with data_dir.acting_as(uid, gid):
        data_dir.check_place(path)
        if settings.embedded:
            # Both descriptors stay open until this process ends.
            embedded.hold_master_lock(path)
            embedded.hold_users_lock(path)
    if settings.embedded:
        data_dir.ensure_running_as(path, uid, gid)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # a system whose hard limit is above what it grants


def on_reload(server: Any) -> None:
    """Start the supervisor of the embedded Redis again where it was killed."""
    if names_place and settings.embedded:
        try:
            data_dir.ensure_running_as(settings.data_dir, server.cfg.uid, server.cfg.gid)
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
        host = "127.0.0.1" if name[0] in ("0.0.0.0", "::") else f"[{name[0]}]" if ":" in name[0] else name[0]
        address = f"http://{host}:{name[1]}"
        server.log.info("Serving on %s: sockets at %s, the HTTP API at /api/v1", address, settings.socket_path)
        if settings.console:
            server.log.info("The console: %s/console/", address)
        server.log.info("Ready when this says so: %s/readyz", address)
