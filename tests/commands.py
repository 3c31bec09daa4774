"""What the typed namespaces serve, as their command tables say it: a test of every command can't forget a new one."""

import importlib
import pkgutil
from typing import NamedTuple

from mintflow_realtime import namespaces
from mintflow_realtime.auth.policy import READ_SCOPE
from mintflow_realtime.namespaces.base import Namespace

# Events that come by themselves, whatever a client has just sent.
UNASKED = frozenset(
    "new_log clear_logs logs_dropped workspace_updated user_joined user_left presence_updated ai_response ai_error"
    " ai_stream_start ai_stream_chunk ai_stream_end auth_expiring resync position".split()
)


class Served(NamedTuple):
    """One command; `answer` is the event that answers it without an ack, '' for none."""

    namespace: str
    command: str
    answer: str


def _served() -> list[Served]:
    for module in pkgutil.iter_modules(namespaces.__path__):
        importlib.import_module(f"{namespaces.__name__}.{module.name}")
    of_scope = {scope: namespace for namespace, scope in READ_SCOPE.items()}
    classes = [one for one in Namespace.__subclasses__() if one.__module__.startswith(namespaces.__name__ + ".")]
    return sorted(
        Served("/" if one.read_scope is None else of_scope[one.read_scope], command, answer)
        for one in classes
        for command, (_, _, answer) in one._commands.items()
    )


SERVED = _served()
NAMESPACES = sorted({one.namespace for one in SERVED})
