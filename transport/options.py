"""What a worker must know of the application that it serves; the application carries it as `transport`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transport.engine import EngineServer


@dataclass(frozen=True)
class TransportOptions:
    """Values of one node. `node_tag` is made after the fork; without `affinity_dir` connections are not moved."""

    socket_path: str
    cors_origin: tuple[str, ...] | Literal["*"]
    affinity_dir: str | None
    node_tag: str
    engine: "EngineServer"
    drain_seconds: float = 5.0
    opening: Callable[[], object] = lambda: None
    """Called when the worker begins to serve; the first request does what it does, if that comes sooner."""
    closing: Callable[[], object] = lambda: None
    """Called when a drain is over, for what the application holds."""

    def is_socket_path(self, path: str) -> bool:
        """Tell whether `path` (decoded, without query) is the Engine.IO endpoint, with or without a last slash."""
        return path.rstrip("/") == self.socket_path.rstrip("/")


def transport_of(application: object) -> TransportOptions:
    """Return the options of a WSGI application object. Raises `TypeError` where it carries none."""
    options = getattr(application, "transport", None)
    if not isinstance(options, TransportOptions):
        raise TypeError("The WSGI application has no attribute `transport` of type TransportOptions.")
    return options
