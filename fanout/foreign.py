"""What comes over the library's own channel, from another node or a write-only manager elsewhere."""

import base64
from typing import Any

from socketio.packet import Packet

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
