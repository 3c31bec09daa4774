"""MintFlow Realtime: flow runs, logs, workspaces and AI streams, live, over Socket.IO.

The public names are loaded when they are asked for: a process that publishes never imports what serves. Importing this
package builds nothing and connects to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mintflow_realtime import errors as errors
    from mintflow_realtime.app.socket_manager import SocketManager as SocketManager
    from mintflow_realtime.app.socket_manager import current_realtime as current_realtime
    from mintflow_realtime.emitter import Emitter as Emitter
    from mintflow_realtime.namespaces.base import Namespace as Namespace
    from mintflow_realtime.namespaces.base import handles as handles
    from mintflow_realtime.settings.settings import SettingError as SettingError
    from mintflow_realtime.settings.settings import Settings as Settings

__version__ = "0.2.0"

# Where each public name is, and the extra that brings what it imports.
_PUBLIC = {
    "Emitter": ("mintflow_realtime.emitter", ""),
    "errors": ("mintflow_realtime.errors", ""),
    "SettingError": ("mintflow_realtime.settings.settings", ""),
    "Settings": ("mintflow_realtime.settings.settings", ""),
    "Namespace": ("mintflow_realtime.namespaces.base", "server"),
    "SocketManager": ("mintflow_realtime.app.socket_manager", "server"),
    "current_realtime": ("mintflow_realtime.app.socket_manager", "server"),
    "handles": ("mintflow_realtime.namespaces.base", "server"),
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, extra = _PUBLIC[name]
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("mintflow_realtime"):
            raise
        sentence = f"mintflow_realtime.{name} needs {error.name}: pip install 'mintflow-realtime[{extra}]'"
        raise ImportError(sentence, name=error.name) from error
    found = module if name == "errors" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
