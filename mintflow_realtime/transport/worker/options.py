"""What a worker must know of the application that it serves; the application carries it as `transport`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mintflow_realtime.transport.engine_io.server import EngineServer


@dataclass(frozen=True)
class TransportOptions:
    """Values of one node. `node_tag` is made after the fork; without `affinity_dir` connections are not moved."""

    socket_path: str
    cors_origin: tuple[str, ...] | Literal["*"]
    affinity_dir: str | None
    node_tag: str
    engine: EngineServer
    drain_seconds: float = 5.0
    opening: Callable[[], object] = lambda: None
    """Called when the worker begins to serve; the first request does what it does, if that comes sooner."""
    closing: Callable[[], object] = lambda: None
    """Called when a drain is over, for what the application holds."""

    def is_socket_path(self, path: str) -> bool:
        """Tell whether `path` (decoded, without query) is the Engine.IO endpoint, with or without a last slash."""
        return is_at(self.socket_path, path)


class CannotServe(RuntimeError):
    """What an application needs to serve sockets can't be had; the text is a sentence for who started the server."""


class NoTransport(CannotServe, TypeError):
    """What is to be served carries no transport."""


def is_at(socket_path: str, path: str) -> bool:
    """Tell whether `path` is `socket_path`, with or without a last slash."""
    return path.rstrip("/") == socket_path.rstrip("/")


def transport_of(application: object) -> TransportOptions:
    """Return the options of a WSGI application object. Raises `NoTransport`, a TypeError, or `CannotServe`."""
    options = getattr(application, "transport", None)
    if not isinstance(options, TransportOptions):
        raise NoTransport(
            "The WSGI application has no attribute `transport` of type TransportOptions: "
            "serve `realtime.wsgi_app`, and put middleware on `app.wsgi_app`."
        )
    return options


def served_by(application: Any) -> Any:
    """Return what serves the sockets of `application`: itself, or for a Flask app what its extension serves it with."""
    extension = getattr(application, "extensions", {}).get("mintflow")
    return application if extension is None else extension.wsgi_app
