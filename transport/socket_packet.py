"""Socket.IO packets, from their texts and to them, as the Socket.IO v5 protocol has them; and the answer to one event.

Source: the protocol document, "Packet encoding". No object of a packet is made where a tuple does.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from socketio import packet
from socketio.packet import ACK, BINARY_ACK, BINARY_EVENT, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT

from transport.outgoing import Outgoing

MAX_ATTACHMENTS = 10

# Type, attachments, namespace (its query is dropped), ack id; the rest is JSON.
_HEAD = re.compile(r"([0-6])(?:(\d{1,10})-)?(?:(/[^,?]*)(?:\?[^,]*)?(?:,|\Z))?(\d{1,19}(?!\d))?", re.ASCII).match

_PLAIN = (str, int, float, type(None))

Loads = Callable[[str], Any]
Dumps = Callable[[Any], str]


class Incoming(NamedTuple):
    """A packet as it came; `attachments` are still to come, and `data` has placeholders where they go."""

    kind: int
    attachments: int
    namespace: str
    id: int | None
    data: Any


class Partial:
    """A packet whose attachments are coming: at most `limit` bytes of them."""

    __slots__ = ("packet", "parts", "_left")

    def __init__(self, packet: Incoming, limit: int) -> None:
        self.packet = packet
        self.parts: list[bytes] = []
        self._left = limit

    def add(self, part: bytes) -> bool:
        """Take an attachment; True when it was the last. Raises ValueError."""
        self._left -= len(part)
        if self._left < 0:
            raise ValueError("Attachments of too many bytes")
        self.parts.append(part)
        return len(self.parts) == self.packet.attachments

    def whole(self) -> Incoming:
        """Return the packet with its attachments in their places. Raises ValueError."""
        return self.packet._replace(data=_filled(self.packet.data, self.parts))


def decode(text: str, loads: Loads) -> Incoming:
    """Read a packet. Raises ValueError for what the protocol doesn't allow."""
    head = _HEAD(text)
    if head is None:
        raise ValueError(f"A packet that begins with {text[:8]!r}")
    kind, count, namespace, id = int(head[1]), head[2], head[3], head[4]
    rest = text[head.end() :] if head.end() < len(text) else ""
    data = loads(rest) if rest else None
    if (
        (count is not None) != (kind in (BINARY_EVENT, BINARY_ACK))
        or count is not None
        and int(count) > MAX_ATTACHMENTS
    ):
        raise ValueError("Attachments where none may be, or too many of them")
    if kind in (EVENT, BINARY_EVENT):
        if not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("An event is a list that begins with its name")
    elif kind in (ACK, BINARY_ACK):
        if not isinstance(data, list) or id is None:
            raise ValueError("An ack carries an id and a list")
    elif id is not None or kind == CONNECT_ERROR or kind == DISCONNECT and data is not None:
        raise ValueError(f"A packet of type {kind} that a client does not send")
    elif kind == CONNECT and not isinstance(data, (dict, type(None))):
        raise ValueError("A CONNECT carries an object or nothing")
    return Incoming(kind, int(count or 0), namespace or "/", None if id is None else int(id), data)


def encode(kind: int, namespace: str, id: int | None, data: Any, dumps: Dumps) -> Outgoing:
    """Return a packet ready to be sent; bytes in the data of an event or an ack become attachments."""
    place = "" if namespace == "/" else namespace + ","
    number = "" if id is None else id
    if kind in (EVENT, ACK) and has_bytes(data):
        data, parts = packet.Packet.deconstruct_binary(data)
        kind = BINARY_EVENT if kind == EVENT else BINARY_ACK
        return Outgoing(f"4{kind}{len(parts)}-{place}{number}{dumps(data)}", tuple(bytes(part) for part in parts))
    return Outgoing(f"4{kind}{place}{number}{'' if data is None else dumps(data)}")


def has_bytes(data: Any) -> bool:
    """Tell whether there are bytes anywhere in lists and dicts, however deep."""
    waiting = [data]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, tuple)):
            waiting += [inner for inner in one if not isinstance(inner, _PLAIN)]
        elif isinstance(one, dict):
            waiting += [inner for inner in one.values() if not isinstance(inner, _PLAIN)]
        elif isinstance(one, (bytes, bytearray)):
            return True
    return False


def _filled(data: Any, parts: list[bytes]) -> Any:
    if isinstance(data, list):
        return [_filled(one, parts) for one in data]
    if not isinstance(data, dict):
        return data
    if data.get("_placeholder") is True:
        number = data.get("num")
        if type(number) is not int or not 0 <= number < len(parts):
            raise ValueError("A placeholder without its attachment")
        return parts[number]
    return {name: _filled(one, parts) for name, one in data.items()}


class Reply:
    """How one event is answered: by ack if the client asked for one, by an event otherwise."""

    __slots__ = ("_send", "_namespace", "_id", "_dumps")

    def __init__(self, send: Callable[[Outgoing], None], namespace: str, id: int | None, dumps: Dumps) -> None:
        self._send, self._namespace, self._id, self._dumps = send, namespace, id, dumps

    @property
    def acked(self) -> bool:
        return self._id is not None

    def ack(self, value: Any) -> None:
        """Answer with the one argument of the ack."""
        self._say(ACK, self._id, [value])

    def emit(self, event: str, value: Any) -> None:
        """Answer with an event."""
        self._say(EVENT, None, [event, value])

    def _say(self, kind: int, id: int | None, data: list[Any]) -> None:
        # What typed namespaces answer is JSON alone: bytes in it become base64, as everywhere else in it.
        place = "" if self._namespace == "/" else self._namespace + ","
        self._send(Outgoing(f"4{kind}{place}{'' if id is None else id}{self._dumps(data)}"))
