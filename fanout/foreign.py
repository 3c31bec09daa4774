"""What comes over the library's own channel, from another node or a write-only manager elsewhere."""

import base64
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from socketio.packet import Packet

from protocol.errors import Unavailable
from protocol.wire_json import loads

_log = logging.getLogger("mintflow.manager")

# What another process may ask for besides an emit, and the fields that must be texts then.
FIELDS = {
    "disconnect": ("namespace", "sid"),
    "close_room": ("namespace", "room"),
    "enter_room": ("namespace", "sid", "room"),
    "leave_room": ("namespace", "sid", "room"),
}


def check(message: dict[str, Any]) -> None:
    """Raise ValueError where a message of one of `FIELDS` lacks what it needs."""
    if not all(isinstance(message.get(field), str) for field in FIELDS[message["method"]]):
        raise ValueError(f"{message['method']} of a strange form")


def data_of(message: dict[str, Any]) -> Any:
    """Return what was emitted, as `emit` takes it."""
    data = message["data"] if isinstance(message["data"], list) else [message["data"]]
    if message.get("binary"):
        data = Packet.reconstruct_binary(data[0], [base64.b64decode(one) for one in data[1:]])
    return data[0] if len(data) == 1 else tuple(data)


class Foreign:
    """The manager's ear for it, which never fails: what is malformed or unaddressed is counted in `dropped`."""

    host_id: str
    server: Any
    dropped: Counter[str]
    _tenant_only: frozenset[str]

    if TYPE_CHECKING:

        def _addressed(self, namespace: str, room: Any) -> bool: ...

        def _handle_emit(self, message: dict[str, Any], *, heard: bool = False) -> None: ...

        def _handle_callback(self, message: dict[str, Any]) -> None: ...

    def heard_outside(self, text: bytes) -> None:
        """Take a message of the library's own channel, from another node or a write-only manager elsewhere."""
        try:
            message = loads(text)
            method, own = message["method"], message.get("host_id") == self.host_id
            if method == "emit":
                if not isinstance(message["event"], str) or not self._addressed(message["namespace"], message["room"]):
                    self.dropped["unaddressed"] += 1
                    return
                self._handle_emit(message, heard=True)
            elif method == "callback":
                self._handle_callback(message)
            elif not own and method in FIELDS:
                check(message)
                if method != "disconnect" and message["namespace"] in self._tenant_only:
                    self.dropped["unaddressed"] += 1
                    return
                # A disconnect handler may take its time; the node's ear may not.
                self.server.start_background_task(getattr(self, f"_handle_{method}"), message)
        except Unavailable:
            self.dropped["unanswered"] += 1
        except Exception as error:
            # Anyone with the Redis password can publish here. It is ignored and counted; the rest goes on.
            self.dropped["malformed"] += 1
            _log.debug("ignored a message of the library's channel: %s", error)
