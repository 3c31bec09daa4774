"""What a server needs of this machine: settings that can be used, descriptors, a directory, a Redis."""

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mintflow_realtime.cli.context import load_settings
from mintflow_realtime.settings.settings import SettingError, Settings
from mintflow_realtime.stores.embedded import embedded, redis_server
from mintflow_realtime.stores.redis.self_check import CheckResult, Outcome, check_redis

# What a node keeps for Redis, the log and what else isn't a client.
SPARE_DESCRIPTORS = 256


def check_machine() -> Iterator[CheckResult]:
    """Yield what is found. Starts nothing: an embedded Redis that doesn't run is only looked for."""
    try:
        settings = load_settings()
    except SettingError as error:
        yield CheckResult("settings", Outcome.FAILED, str(error), "Correct it: `mintflow settings` shows all.")
        return
    for sentence in settings.warnings:
        yield CheckResult("settings", Outcome.WARNING, sentence)
    yield _settings(settings)
    yield _descriptors(settings.max_connections)
    yield _data_dir(settings)
    if not settings.embedded:
        yield from check_redis(settings.redis_url, settings.redis_prefix, settings.channel)
        return
    server = _embedded_server(settings.data_dir)
    yield server
    if server.outcome is Outcome.OK:
        if _runs(settings.data_dir):
            yield from check_redis(settings.redis_url, settings.redis_prefix, settings.channel)
        else:
            yield CheckResult("redis", Outcome.OK, "the embedded Redis is not running; the server starts it")


def _settings(settings: Settings) -> CheckResult:
    if not settings.auth_required:
        advice = "Set SOCKET_AUTH_REQUIRED=true, unless everybody may."
        tenants = ", ".join(settings.anonymous_tenants)
        return CheckResult("settings", Outcome.WARNING, f"anybody may connect, to the tenant {tenants}", advice)
    return CheckResult("settings", Outcome.OK, "all can be used")


def _descriptors(max_connections: int) -> CheckResult:
    # The server raises its own limit up to the hard one.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= max_connections + SPARE_DESCRIPTORS:
        return CheckResult("descriptors", Outcome.OK, f"{hard}, for {max_connections} connections a worker")
    found = f"{hard} allow {max(0, hard - SPARE_DESCRIPTORS)} connections a worker, not {max_connections}"
    advice = f"`ulimit -Hn {max_connections + SPARE_DESCRIPTORS}`, LimitNOFILE= of systemd, or a lower "
    return CheckResult("descriptors", Outcome.WARNING, found, advice + "SOCKET_MAX_CONNECTIONS.")


def _data_dir(settings: Settings) -> CheckResult:
    path = Path(settings.data_dir)
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        if not nearest.is_dir():
            raise NotADirectoryError(f"{nearest} is no directory")
        # access() says yes to root on a read-only disk.
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        found = f"{path} can't be written to: {error.strerror or error}"
        return CheckResult("data dir", Outcome.FAILED, found, "Set DATA_DIR to a directory of the server's user.")
    made = "" if path.exists() else ", which the server will make"
    owner = "" if not path.exists() or path.stat().st_uid == os.geteuid() else ", which another user owns"
    return CheckResult("data dir", Outcome.OK, f"{path}{made}{owner}")


def _embedded_server(data_dir: str) -> CheckResult:
    try:
        newest = redis_server.recorded_version(Path(data_dir))
        path, version = redis_server.choose_server(redis_server.installed_servers(), newest)
    except (redis_server.Refused, OSError) as error:
        return CheckResult("embedded", Outcome.FAILED, str(error))
    return CheckResult("embedded", Outcome.OK, f"{path}, version {redis_server.dotted(version)}")


def _runs(data_dir: str) -> bool:
    return embedded.ping(Path(data_dir)).startswith(b"+PONG")
