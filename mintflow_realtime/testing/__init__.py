"""What applications test with: a real server, blocking clients, and faults on demand. `docs/testing.md` shows it.

The names are loaded when they are asked for, so that pytest's start costs nothing where nobody does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mintflow_realtime.testing.clients.client import RealtimeClient as RealtimeClient
    from mintflow_realtime.testing.servers.gunicorn_process import ServerError as ServerError
    from mintflow_realtime.testing.servers.redis_process import RedisError as RedisError
    from mintflow_realtime.testing.servers.redis_process import RedisProcess as RedisProcess
    from mintflow_realtime.testing.servers.server import RealtimeServer as RealtimeServer

_PUBLIC = {
    "RealtimeClient": "clients.client",
    "RealtimeServer": "servers.server",
    "RedisError": "servers.redis_process",
    "RedisProcess": "servers.redis_process",
    "ServerError": "servers.gunicorn_process",
}

__all__ = [*_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mintflow_realtime"):
            raise
        sentence = f"{__name__}.{name} needs {error.name}: pip install 'mintflow-realtime[testing]'"
        raise ImportError(sentence, name=error.name) from error
    globals()[name] = found
    return found
