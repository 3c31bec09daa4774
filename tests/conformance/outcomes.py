"""What may come of a case: a small algebra, and the row that joins a case to a section of a standard."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.conformance.wire import VALID_CODES, Received, normal

Reply = str | bytes | Received


class Outcome(Protocol):
    @property
    def may_live(self) -> bool:
        """Tell whether the connection may go on."""
        ...

    def met(self, replies: list[Received], end: Received | None) -> bool:
        """Tell whether this came of it; `end` is a close frame or the TCP end without one, None while it lives."""
        ...


@dataclass(frozen=True)
class Lives:
    """These replies come, in this order unless not `ordered`, and then the connection serves as before."""

    replies: tuple[Reply, ...] = ()
    ordered: bool = True
    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        wanted, came = [_plain(one) for one in self.replies], [_plain(one) for one in replies]
        if not self.ordered:
            wanted, came = sorted(wanted, key=repr), sorted(came, key=repr)
        return end is None and wanted == came


@dataclass(frozen=True)
class Closes:
    """After these replies comes a close frame with one of `codes` (None: without a code), and then the TCP end.

    Not `exactly`: each of the replies may come, at most once.
    """

    codes: frozenset[int | None]
    replies: tuple[Reply, ...] = ()
    exactly: bool = True
    may_live = False

    def __repr__(self) -> str:
        return f"Closes({sorted(self.codes, key=repr) if len(self.codes) < 9 else 'any'}, {self.replies!r:.200})"

    def met(self, replies: list[Received], end: Received | None) -> bool:
        wanted, came = [_plain(one) for one in self.replies], [_plain(one) for one in replies]
        if not self.exactly:
            wanted = [one for one in wanted if one in came]
            wanted, came = sorted(wanted, key=repr), sorted(came, key=repr)
        return wanted == came and end is not None and end.kind == "close" and end.content in self.codes


@dataclass(frozen=True)
class Pongs:
    """RFC 6455 5.5.3: of several pings, numbered from 0, the last must be answered, and those before it may be."""

    count: int
    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        numbers = [int(one.content) for one in replies if one.kind == "pong"]
        in_order = numbers == sorted(set(numbers)) and numbers[-1:] == [self.count - 1]
        return end is None and in_order and len(numbers) == len(replies)


@dataclass(frozen=True)
class OneError:
    """One CONNECT_ERROR of a namespace, with a `message`."""

    namespace: str
    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        found = [normal(one.content) for one in replies]
        return (
            end is None
            and len(found) == 1
            and found[0][0] == 4
            and found[0][2] == self.namespace
            and bool(found[0][4]["message"])
        )


@dataclass(frozen=True)
class Refused:
    """The answer of DESIGN 5 to an unknown event: an ack, or an event `error`."""

    id: int | None
    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        if end is not None or len(replies) != 1:
            return False
        kind, _, _, number, content = normal(replies[0].content)
        if self.id is None:
            return bool(kind == 2 and content[0] == "error" and content[1]["code"] == "unknown_event")
        return bool((kind, number) == (3, self.id) and content[0]["error"]["code"] == "unknown_event")


@dataclass(frozen=True)
class MayEnd:
    """The connection ends; what came before the fault may have been answered: wholly, in part or not at all."""

    replies: tuple[Reply, ...]
    may_live = False

    def __init__(self, *replies: Reply) -> None:
        object.__setattr__(self, "replies", replies)

    def met(self, replies: list[Received], end: Received | None) -> bool:
        return any(closes(after=self.replies[:length]).met(replies, end) for length in range(len(self.replies) + 1))


@dataclass(frozen=True)
class Echoed:
    """`message-back` comes, whatever is in it."""

    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        return end is None and len(replies) <= 1 and all(normal(one.content)[4][0] == "message-back" for one in replies)


@dataclass(frozen=True)
class Deep:
    """An ack of id 7 that is JSON, whatever is in it."""

    may_live = True

    def met(self, replies: list[Received], end: Received | None) -> bool:
        text = str(replies[0].content) if replies else ""
        return end is None and text.startswith(("437[", "461-7["))


@dataclass(frozen=True)
class OneOf:
    """The standard leaves it open, or says MAY; not more than this, though."""

    options: tuple[Outcome, ...]

    @property
    def may_live(self) -> bool:
        return any(one.may_live for one in self.options)

    def met(self, replies: list[Received], end: Received | None) -> bool:
        return any(one.met(replies, end) for one in self.options)


def _plain(one: Any) -> Any:
    if isinstance(one, Received):
        one = one.content if one.kind in ("text", "binary") else one
    return normal(one)


def lives(*replies: Reply) -> Lives:
    return Lives(replies)


def unordered(*replies: Reply) -> Lives:
    return Lives(replies, ordered=False)


def closes(*codes: int | None, after: Iterable[Reply] = ()) -> Closes:
    """Return the end by a close frame; without `codes` with any that a server may send, or none."""
    return Closes(frozenset(codes) or VALID_CODES | {None}, tuple(after))


def one_of(*options: Outcome) -> OneOf:
    return OneOf(options)


@dataclass(frozen=True)
class Row:
    """Segments of bytes on a WebSocket that is in `namespaces`, and the outcome that `section` demands."""

    section: str
    name: str
    segments: tuple[bytes, ...]
    outcome: Outcome
    namespaces: tuple[str, ...] = ("/",)
    await_replies: int = 0
    """So many replies come before the connection is asked whether it lives: a client waits for CONNECT's answer."""

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"

    @property
    def bytes(self) -> bytes:
        return b"".join(self.segments)


@dataclass
class Table:
    """Rows in the making; a name twice in one section is a mistake."""

    rows: list[Row] = field(default_factory=list)

    def add(self, section: str, name: str, segments: Any, outcome: Outcome, **options: Any) -> None:
        parts = (segments,) if isinstance(segments, bytes) else tuple(bytes(one) for one in segments)
        self.rows.append(Row(section, name, parts, outcome, **options))

    def checked(self) -> list[Row]:
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[str(row)] = counts.get(str(row), 0) + 1
        twice = [name for name, count in counts.items() if count > 1]
        assert not twice, twice
        return self.rows
