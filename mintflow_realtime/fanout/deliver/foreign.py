"""What comes over the library's own channel, from another node or a write-only manager elsewhere."""

import base64
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

from socketio.packet import Packet

from mintflow_realtime.metrics.series import IGNORED
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.wire_json import loads

DAY = 24 * 3600.0
# The channel of Flask-SocketIO, where nobody says another: what is emitted there is for its own servers.
FLASK_SOCKETIO = "flask-socketio"
# How pickled data begins, from Python's protocol 2 on.
_PICKLE = b"\x80"

_log = logging.getLogger("mintflow.manager")
_rare = RareLog(_log, seconds=DAY)

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
    """The manager's handler for it, which never fails: what is malformed or unaddressed is counted in `dropped`."""

    host_id: str
    channel: str
    _prefix: str
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
            if text[:1] == _PICKLE:
                self._tell_pickled(self.channel)
                return
            message = loads(text)
            self._tell_prefix(message.get("prefix"))
            method, own = message["method"], message.get("host_id") == self.host_id
            if method == "emit":
                if not isinstance(message["event"], str) or not self._addressed(message["namespace"], message["room"]):
                    self._ignored("unaddressed")
                    return
                self._handle_emit(message, heard=True)
            elif method == "callback":
                self._handle_callback(message)
            elif not own and method in FIELDS:
                check(message)
                if method != "disconnect" and message["namespace"] in self._tenant_only:
                    self._ignored("unaddressed")
                    return
                # A disconnect handler may take its time; the node's subscriber may not.
                self.server.start_background_task(getattr(self, f"_handle_{method}"), message)
        except Unavailable:
            self._ignored("unanswered")
        except Exception as error:
            # Anyone with the Redis password can publish here. It is ignored and counted; the rest goes on.
            self._ignored("malformed")
            _log.debug("ignored a message of the library's channel: %s", error)

    def heard_flask_socketio(self, text: bytes) -> None:
        """Tell of an emit on Flask-SocketIO's own channel, which is for none of our clients."""
        self._ignored("other_channel")
        _rare.warning(
            f"somebody emits on the channel {FLASK_SOCKETIO!r}, as Flask-SocketIO does, and nobody here gets it: give "
            f"its SocketIO(message_queue=…) channel={self.channel!r}, or set SOCKET_CHANNEL={FLASK_SOCKETIO}."
        )
        if text[:1] == _PICKLE:
            self._tell_pickled(FLASK_SOCKETIO)

    def _ignored(self, reason: str) -> None:
        self.dropped[reason] += 1
        IGNORED.add(reason)

    def _tell_pickled(self, channel: str) -> None:
        # Never unpickled: that would run whatever its sender likes.
        self._ignored("pickled")
        _rare.warning(
            f"an emit on the channel {channel!r} is pickled, as python-socketio before 5.14 sends it, and was dropped: "
            "install python-socketio 5.14 or newer where it comes from."
        )

    def _tell_prefix(self, prefix: Any) -> None:
        if isinstance(prefix, str) and prefix and self._prefix and prefix != self._prefix:
            _rare.warning(
                f"another installation, of REDIS_PREFIX {prefix[:64]!r}, emits on the channel {self.channel!r} too, "
                "and what either emits reaches the clients of both: give each a SOCKET_CHANNEL of its own."
            )
