"""What became of an event for one client: judged by what its nodes tell. Pure: no Redis, no clock.

A place in the log decides where both are of one epoch, else the node's own clock. What a client showed when it came
back outweighs what was handed to its connection before.
"""

from collections.abc import Iterable
from typing import NamedTuple

from mintflow_realtime.fanout.rooms import states_room_of, tenant_of
from mintflow_realtime.protocol.envelope import ORIGIN, Offset, parse_offset
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.why import NodeTells, Outcome, RoomStay, Stay

# What was handed to a connection so long before it ended like this may never have arrived.
DOUBTFUL_MS = 60_000
_DOUBTFUL = ("ping timeout", "slow consumer", "transport error", "transport close")


class Numbered(NamedTuple):
    """The event: its place, when it was numbered (milliseconds since 1970), whom it is for; by its policy."""

    offset: Offset
    at: float
    rooms: tuple[str, ...]
    except_sid: str = ""
    may_be_dropped: bool = False

    @property
    def relevant_rooms(self) -> list[str]:
        """Its rooms, and those whose clients were told of it in another form."""
        return [*self.rooms, *filter(None, map(states_room_of, self.rooms))]


class Verdict(NamedTuple):
    """An outcome, when (milliseconds since 1970; 0 where that isn't known), and a sentence for it."""

    outcome: Outcome
    at: float
    sentence: str


def judge(event: Numbered, stays: Iterable[tuple[Stay, NodeTells]]) -> Verdict:
    """Return what became of an event for one client, by its connections in their order."""
    found: Verdict | None = None
    for stay, node in stays:
        one = _of_stay(event, stay, node)
        if one is None or (found is not None and not _outweighs(one, found)):
            continue
        if found is not None and found.outcome == "unknown" and found.at and one.outcome == "delivered":
            # It was handed over, and the client had it when it came back.
            one = Verdict("delivered", found.at, f"delivered live at {_t(found.at)}")
        found = one
    return found or Verdict("not_connected", 0, "not connected")


def _outweighs(one: Verdict, before: Verdict) -> bool:
    """Tell whether a later connection's verdict counts more: it knows what the client had, or the one before nothing.

    What was dropped is behind the offset that the client shows, and was not received all the same.
    """
    if one.outcome == "delivered" and not one.at:
        return before.outcome in ("unknown", "not_connected")
    return one.outcome == "replayed" or (before.outcome == "not_connected" != one.outcome)


def _of_stay(event: Numbered, stay: Stay, node: NodeTells) -> Verdict | None:
    after_begin = _is_after(event, stay.position, stay.connected_at, node)
    if not after_begin:
        return _before(event, stay, node)
    if stay.closed_at and _is_after(event, stay.closed_position, stay.closed_at, node):
        return Verdict(
            "not_connected", stay.closed_at, f"not connected: closed at {_t(stay.closed_at)} ({stay.closed})"
        )
    if event.at < node.complete_from and not (stay.closed_at or stay.rooms):
        return Verdict("unknown", 0, f"unknown: its node remembers nothing from before {_t(node.complete_from)}")
    if event.except_sid == stay.sid:
        return Verdict("delivered", node.heard_at or 0, "delivered: by the answer to its own command")
    outside = _outside(event, stay, node)
    if outside is not None:
        return outside
    return _live(event, stay, node)


def _before(event: Numbered, stay: Stay, node: NodeTells) -> Verdict | None:
    """Judge an event from before a client was told that it is connected: it came back, or it came too late."""
    when = _t(stay.connected_at)
    shown = parse_offset(stay.replayed_from) if stay.replayed_from else None
    if shown is None:
        why = f", and was told to fetch anew ({stay.resync})" if stay.resync else ""
        return Verdict("not_connected", stay.connected_at, f"not connected: it came at {when}{why}")
    # Numbers go on over epochs as long as the log does, and the event is in it.
    if event.offset.number <= shown.number:
        if _room_at(event, stay) is None and not _in_tenant_room(event):
            return None
        return Verdict("delivered", 0, f"delivered: it had this when it came back at {when}")
    room = _room_at(event, stay)
    if room is None and not _in_tenant_room(event):
        return _left_or_never(event, stay, node)
    return Verdict("replayed", stay.connected_at, f"replayed at {when}, when it came back")


def _live(event: Numbered, stay: Stay, node: NodeTells) -> Verdict:
    heard = node.heard_at
    number = event.offset.number
    for first, last in stay.dropped if event.may_be_dropped else ():
        begin, end = parse_offset(first), parse_offset(last)
        if begin and end and begin.epoch == event.offset.epoch and begin.number <= number <= end.number:
            return Verdict("dropped", heard or 0, "dropped as drop_oldest: it read too slowly")
    unsent = parse_offset(stay.unsent) if stay.unsent else None
    if unsent is not None and unsent.epoch == event.offset.epoch and number >= unsent.number:
        if stay.closed_at:
            told = f"dropped: its connection ended at {_t(stay.closed_at)} ({stay.closed}) before it was sent"
            return Verdict("dropped", stay.closed_at, told)
        return Verdict("unknown", 0, "unknown: it waits to be sent, since the client reads slowly")
    if heard is None:
        if node.lost is not None and node.lost[0] >= event.at:
            at, reason = node.lost
            return Verdict(
                "dropped", at, f"dropped: its node missed it, and told it to fetch anew at {_t(at)} ({reason})"
            )
        return Verdict("unknown", 0, "unknown: its node has not heard it, or has forgotten when")
    # What waited was handed over some time in a pause, at its end at the latest.
    began, handed = next(((first, last) for first, last in stay.pauses if first <= heard <= last), (0, heard))
    if stay.closed_at and stay.closed in _DOUBTFUL and stay.closed_at - handed < DOUBTFUL_MS:
        ended = f"which ended at {_t(stay.closed_at)} ({stay.closed}) perhaps before it arrived"
        return Verdict("unknown", handed, f"unknown: handed to its connection at {_t(handed)}, {ended}")
    if began:
        sentence = f"delivered live by {_t(handed)}: it read slowly from {_t(began)} on"
        return Verdict("delivered", handed, sentence)
    return Verdict("delivered", heard, f"delivered live at {_t(heard)}")


def _outside(event: Numbered, stay: Stay, node: NodeTells) -> Verdict | None:
    if _in_tenant_room(event) or any(_was_in(event, one, node) for one in stay.rooms):
        return None
    return _left_or_never(event, stay, node)


def _left_or_never(event: Numbered, stay: Stay, node: NodeTells) -> Verdict:
    left = [one.until_at for one in stay.rooms if one.until_at and _is_after(event, one.until, one.until_at, node)]
    came = [one.since_at for one in stay.rooms if one.since_at and not _is_after(event, one.since, one.since_at, node)]
    told = _told_beyond(event, stay)
    if left:
        return Verdict("not_in_room", max(left), f"not in the room: left at {_t(max(left))}{told}")
    if came:
        return Verdict("not_in_room", min(came), f"not in the room: entered at {_t(min(came))}{told}")
    return Verdict("not_in_room", 0, f"not in the room{told}")


def _told_beyond(event: Numbered, stay: Stay) -> str:
    """Return what a client knows that wasn't sent an event: that its log went on beyond it."""
    told = parse_offset(stay.told) if stay.told else None
    if told is None or told.epoch != event.offset.epoch or told.number < event.offset.number:
        return ""
    return f"; told at {_t(stay.told_at)} that the log stood at {stay.told}"


def _room_at(event: Numbered, stay: Stay) -> RoomStay | None:
    """Return the stay in a room of the event's by which a replay has it: one that began before, and didn't end yet."""
    for one in stay.rooms:
        since, until = parse_offset(one.since) if one.since else None, parse_offset(one.until) if one.until else None
        if since is not None and since.epoch == event.offset.epoch and since.number >= event.offset.number:
            continue
        if until is not None and until.epoch == event.offset.epoch and until.number < event.offset.number:
            continue
        return one
    return None


def _was_in(event: Numbered, one: RoomStay, node: NodeTells) -> bool:
    if (one.since or one.since_at) and not _is_after(event, one.since, one.since_at, node):
        return False
    return not one.until_at or not _is_after(event, one.until, one.until_at, node)


def _is_after(event: Numbered, position: str, at: float, node: NodeTells) -> bool:
    """Tell whether an event came to a node after it stood at `position`, which was `at` that time."""
    stood = parse_offset(position) if position else None
    if stood == ORIGIN:
        return True
    if stood is not None and stood.epoch == event.offset.epoch:
        return event.offset.number > stood.number
    return (node.heard_at or event.at) >= at


def _in_tenant_room(event: Numbered) -> bool:
    return any(tenant_of(room) + ":" == room for room in event.rooms)


def _t(milliseconds: float) -> str:
    return iso(round(milliseconds))
