"""The envelope: what one publish announces on its channel, ready to be sent by every node.

Three lines: the offset (`epoch-number`, or `-` for a volatile event), the header, and the event's arguments as
JSON text. A node reads the first two and passes the third on as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from mintflow_realtime.protocol.wire_json import dumps, loads

# One event is at most 1 MB and one batch 4 MB, counted in bytes of its arguments' JSON text.
MAX_MESSAGE_BYTES = 2_000_000
"""What a node takes of a channel; longer messages are dropped."""
MAX_EVENT_BYTES = 1_000_000
MAX_BATCH_BYTES = 4_000_000
MAX_BATCH_EVENTS = 1000


class Policy(StrEnum):
    """What a client's full outbox means for this event."""

    CLOSE = "close"
    DROP_OLDEST = "drop_oldest"
    LATEST_ONLY = "latest_only"
    MERGE = "merge"


class Offset(NamedTuple):
    """The position of an event in its log."""

    epoch: str
    number: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"


# Before the first event of a log, whichever epoch that begins.
ORIGIN = Offset("0", 0)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Who gets the event: everyone in any of `rooms`, once, but `except_sid`.

    `key` is what the policy goes by: whose latest is kept, whose are merged, or which event tells of those dropped.
    `at` is when it was published, in milliseconds since 1970 by its publisher's clock; 0 by an earlier version.
    `traceparent` is the span of its publish (W3C Trace Context), "" where nothing is traced.
    """

    rooms: tuple[str, ...]
    policy: Policy = Policy.CLOSE
    key: str = ""
    except_sid: str = ""
    at: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event to publish.

    `pieces` joined with the texts that the change returns are the JSON text of `[name, payload]`. A volatile event has
    no number and is in no log, but keeps its place between those that have. A volatile one that `stands_in` tells its
    clients of the next event of the same publish in another form; a recovering one then has that too.
    """

    header: Header
    pieces: tuple[str, ...]
    volatile: bool = False
    stands_in: bool = False

    @property
    def size(self) -> int:
        """Bytes of JSON text, without what the change inserts."""
        return sum(len(piece.encode()) for piece in self.pieces)

    def filled(self, inserts: Sequence[str]) -> str:
        """Return the JSON text with the gaps filled."""
        return self.pieces[0] + "".join(gap + piece for gap, piece in zip(inserts, self.pieces[1:], strict=True))


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish wrote: the offsets of its events ("-" for volatile ones), the change's texts, and their JSON.

    `repeated` says that an earlier call with the same idempotency key wrote it; times in `texts` may then be later
    than those that were published.
    """

    offsets: tuple[str, ...]
    inserts: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    repeated: bool = False

    @property
    def offset(self) -> str:
        """The offset of the last event."""
        return self.offsets[-1]

    @property
    def payload(self) -> Any:
        """The payload of the last event, decoded."""
        return loads(self.texts[-1])[1]


class Announcement(NamedTuple):
    """A received envelope. `arguments` is JSON text, not decoded.

    `offset` is None for a volatile event; `after` is then the number up to which the node had heard before it. `mark`
    is the offset that a recovering client is told with it: its own, or where the node stands.
    """

    offset: Offset | None
    header: Header
    arguments: str
    after: int = 0
    mark: str = ""


_header = msgspec.json.Decoder(Header)


def event_pieces(name: str, payload_pieces: Sequence[str]) -> tuple[str, ...]:
    """Return the pieces of `[name, payload]` for the pieces of a payload's JSON text."""
    first = f"[{dumps(name)},{payload_pieces[0]}"
    if len(payload_pieces) == 1:
        return (first + "]",)
    return (first, *payload_pieces[1:-1], payload_pieces[-1] + "]")


def decode(message: bytes) -> Announcement:
    """Read an envelope. Raises ValueError for anything else that came on the channel."""
    position, _, rest = message.partition(b"\n")
    header, newline, arguments = rest.partition(b"\n")
    if not newline or not arguments.startswith(b"["):
        raise ValueError("Not an envelope")
    try:
        text = position.decode()
        if text.startswith("-"):
            # A volatile event may be told in place of the numbered one that follows it.
            mark = "" if text == "-" else str(parse_offset(text[1:]))
            return Announcement(None, _header.decode(header), arguments.decode(), 0, mark)
        return Announcement(parse_offset(text), _header.decode(header), arguments.decode(), 0, text)
    except msgspec.DecodeError as error:
        raise ValueError(f"Not an envelope: {error}") from None


def parse_offset(text: str) -> Offset | None:
    """Read `epoch-number`, or `-` as None. Raises ValueError."""
    if text == "-":
        return None
    epoch, dash, number = text.rpartition("-")
    if not (dash and epoch.isalnum() and epoch.isascii() and number.isdecimal() and number.isascii()):
        raise ValueError("Not an offset")
    return Offset(epoch, int(number))
