"""Socket.IO packets, from their texts and to them, as the Socket.IO v5 protocol has them; and the answer to one event.

Source: the protocol document, "Packet encoding". No object of a packet is made where a tuple does.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, cast

from socketio.packet import ACK, BINARY_ACK, BINARY_EVENT, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT

from mintflow_realtime.transport.engine_io.message import ASKED_FOR, UNASKED, Message, Slow

MAX_ATTACHMENTS = 10
# Values that are looked at between two pauses.
STEP = 512

# Type, attachments, namespace (its query is dropped), ack id; the rest is JSON.
_HEAD = re.compile(r"([0-6])(?:(\d{1,10})-)?(?:(/[^,?]*)(?:\?[^,]*)?(?:,|\Z))?(\d{1,19}(?!\d))?", re.ASCII).match

_PLAIN = (str, int, float, type(None))

# The name of an event, of which nothing else is read.
_NAME = re.compile(r'[ \t\n\r]*+\[[ \t\n\r]*+"([^"\\\x00-\x1f]*+)"').match

Loads = Callable[[str], Any]
Dumps = Callable[[Any], str]


class Head(NamedTuple):
    """What stands before a packet's JSON, which begins at `end`."""

    kind: int
    parts: str | None
    namespace: str
    id: int | None
    end: int


# Without the function that a named tuple makes its own with: there is one for each packet.
_new_head = cast(Callable[[tuple[int, str | None, str, int | None, int]], Head], partial(tuple.__new__, Head))


class Incoming(NamedTuple):
    """A packet as it came; `attachments` are still to come, and `data` has placeholders where they go."""

    kind: int
    attachments: int
    namespace: str
    id: int | None
    data: Any


class Partial:
    """A packet whose attachments are coming: at most `limit` bytes of them. `let_go` frees what it was read into."""

    __slots__ = ("packet", "parts", "is_long", "let_go", "_left")

    def __init__(
        self, packet: Incoming, limit: int, *, is_long: bool = False, let_go: Callable[[], None] | None = None
    ) -> None:
        self.packet = packet
        self.parts: list[bytes] = []
        self.is_long, self.let_go = is_long, let_go
        self._left = limit

    def add(self, part: bytes) -> bool:
        """Take an attachment; True when it was the last. Raises ValueError."""
        self._left -= len(part)
        if self._left < 0:
            raise ValueError("Attachments of too many bytes")
        self.parts.append(part)
        return len(self.parts) == self.packet.attachments

    def whole(self, pause: Callable[[], None] = lambda: None) -> Incoming:
        """Return the packet with its attachments in their places; `pause` is called now and then. Raises ValueError."""
        _fill(self.packet.data, self.parts, pause)
        return self.packet


def read_head(text: str) -> Head:
    """Read what stands before a packet's JSON. Raises ValueError."""
    head = _HEAD(text)
    if head is None:
        raise ValueError(f"A packet that begins with {text[:8]!r}")
    kind, count, namespace, id = head.groups()
    return _new_head((int(kind), count, namespace or "/", None if id is None else int(id), head.end()))


def name_of(text: str, head: Head) -> str:
    """Return an event's name; "" where it can't be read at a glance."""
    found = _NAME(text, head.end)
    return "" if found is None else found[1]


def decode(text: str, loads: Loads) -> Incoming:
    """Read a packet. Raises ValueError for what the protocol doesn't allow."""
    return decode_after(read_head(text), text, loads)


def decode_after(head: Head, text: str, loads: Loads) -> Incoming:
    """Read a packet whose head was read. Raises ValueError."""
    kind, count, namespace, id, end = head
    rest = text[end:]
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
    return Incoming(kind, int(count or 0), namespace, id, data)


def event_after(head: Head, text: str, loads: Loads) -> list[Any]:
    """Return name and arguments of an event without attachments whose head was read. Raises ValueError."""
    if head.parts is not None:
        raise ValueError("Attachments where none may be")
    data = loads(text[head.end :])
    if isinstance(data, list) and data and isinstance(data[0], str):
        return data
    raise ValueError("An event is a list that begins with its name")


def encode(kind: int, namespace: str, id: int | None, data: Any, dumps: Dumps, slow: Slow = UNASKED) -> Message:
    """Return a packet ready to be sent; bytes in the data of an event or an ack become attachments."""
    place = "" if namespace == "/" else namespace + ","
    number = "" if id is None else id
    if kind in (EVENT, ACK) and has_bytes(data):
        data, parts = _taken_apart(data)
        kind = BINARY_EVENT if kind == EVENT else BINARY_ACK
        return Message(f"4{kind}{len(parts)}-{place}{number}{dumps(data)}", tuple(parts), slow)
    return Message(f"4{kind}{place}{number}{'' if data is None else dumps(data)}", slow=slow)


def has_bytes(data: Any) -> bool:
    """Tell whether there are bytes anywhere in lists and dicts, however deep."""
    if type(data) is list and len(data) == 1 and isinstance(data[0], _PLAIN):
        # Most answers.
        return False
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


def _taken_apart(data: Any) -> tuple[Any, list[bytes]]:
    """Return a copy of `data` with placeholders for bytes, and these, in order.

    As deep as JSON goes: a function that calls itself ends halfway.
    """
    parts: list[bytes] = []
    root: list[Any] = [None]
    waiting: list[tuple[Any, Any, Any]] = [(root, 0, data)]
    while waiting:
        above, place, value = waiting.pop()
        if isinstance(value, (bytes, bytearray)):
            above[place] = {"_placeholder": True, "num": len(parts)}
            parts.append(bytes(value))
        elif isinstance(value, dict):
            above[place] = copy = dict.fromkeys(value)
            waiting += [(copy, name, one) for name, one in reversed(value.items())]
        elif isinstance(value, (list, tuple)):
            above[place] = copied = [None] * len(value)
            waiting += [(copied, number, value[number]) for number in reversed(range(len(value)))]
        else:
            above[place] = value
    return root[0], parts


def _fill(data: Any, parts: list[bytes], pause: Callable[[], None]) -> None:
    """Put attachments in the place of their placeholders within `data`, which nobody else holds."""
    # An iterator for each level, not a list of all that waits: what is there is a megabyte's worth.
    within = [(data, _places(data))]
    steps = 0
    while within:
        here, places = within[-1]
        for place, value in places:
            steps += 1
            if steps % STEP == 0:
                pause()
            if type(value) is dict and value.get("_placeholder") is True:
                number = value.get("num")
                if type(number) is not int or not 0 <= number < len(parts):
                    raise ValueError("A placeholder without its attachment")
                here[place] = parts[number]
            elif value and type(value) in (dict, list):
                within.append((value, _places(value)))
                break
        else:
            within.pop()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Return places and values of a list or dictionary; its values may be replaced meanwhile."""
    return iter(data.items()) if type(data) is dict else enumerate(data)


class Reply:
    """How one event is answered: by ack if the client asked for one, by an event otherwise."""

    __slots__ = ("_send", "_namespace", "_id", "_dumps")

    def __init__(self, send: Callable[[Message], None], namespace: str, id: int | None, dumps: Dumps) -> None:
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
        self._send(Message(f"4{kind}{place}{'' if id is None else id}{self._dumps(data)}", slow=ASKED_FOR))
