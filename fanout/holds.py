"""History, then live: what arrives for one client while its history is read, and how the two are joined.

A hold begins before the history is read. The history is as of a number of the event log; `catch_up` waits until this
node has heard up to there and settles what came until then; `release` lets go of the rest once the answer is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engineio import packet as engine

from fanout.membership import Membership
from protocol.envelope import Announcement

# Events for one client that wait while its history is read; beyond, it is told to fetch anew.
MAX_HELD = 1000


@dataclass(slots=True)
class Hold:
    """`room` is the one whose history is read, None where the client was in it before: then it loses nothing by it."""

    room: str | None
    waiting: list[tuple[Announcement, engine.Packet]] = field(default_factory=list)
    lost: bool = False
    overflowed: bool = False


class Holds(Membership):
    """Membership whose clients' events can be held; `wait_until_passed(tenant, namespace, number)` is the node's."""

    wait_until_passed: Callable[[str, str, int], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._holds: dict[tuple[str, str], Hold] = {}

    def hold(self, sid: str, namespace: str, room: str) -> None:
        """Enter `room`, and keep what arrives for `sid` until `release`. Raises ValueError where the sid is gone."""
        new = room not in self._rooms_of.get((namespace, sid), ())
        self.basic_enter_room(sid, namespace, room)
        self._holds[namespace, sid] = Hold(room if new else None)

    def catch_up(self, sid: str, tenant: str, namespace: str, number: int, leaving: Sequence[str] = ()) -> None:
        """Say that the answer tells of the held room's events up to `number`, and leave the rooms that end there.

        Waits until this node has heard up to there, and sends what the client's other rooms let it hear of that.
        Raises Unavailable after 2 s.
        """
        self.wait_until_passed(tenant, namespace, number)
        hold = self._holds.get((namespace, sid))
        if hold is not None and not hold.lost:
            # Volatile events stand before the numbered one that they belong to.
            told = max((i + 1 for i, (one, _) in enumerate(hold.waiting) if _is_told(one, number)), default=0)
            history, hold.waiting = hold.waiting[:told], hold.waiting[told:]
            self._send_entitled(sid, namespace, history, hold.room)
        for room in leaving:
            self.basic_leave_room(sid, namespace, room)

    def release(self, sid: str, namespace: str) -> None:
        """Send what was kept, now that the answer with the history is sent; does nothing without a hold."""
        hold = self._holds.pop((namespace, sid), None)
        if hold is None:
            return
        self._send_entitled(sid, namespace, hold.waiting, None)
        if hold.overflowed:
            self.send_to(sid, namespace, "resync", {"reason": "gap"})

    def is_held(self, sid: str, namespace: str, announcement: Announcement, packet: engine.Packet) -> bool:
        """Keep an event for a client whose history is being read, or return False."""
        hold = self._holds.get((namespace, sid))
        if hold is None:
            return False
        if len(hold.waiting) < MAX_HELD:
            hold.waiting.append((announcement, packet))
        else:
            hold.overflowed = True
        return True

    def forget_history(self, sid: str, namespace: str) -> None:
        """Hear that the log was lost: a history of the old numbering says nothing of the new one's events."""
        hold = self._holds.get((namespace, sid))
        if hold is not None:
            hold.lost = True

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None:
        """Send one event to one client of this node."""
        raise NotImplementedError

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        super().basic_disconnect(sid, namespace, **kwargs)
        self._holds.pop((namespace, sid), None)

    def _send_entitled(
        self, sid: str, namespace: str, events: Sequence[tuple[Announcement, engine.Packet]], but: str | None
    ) -> None:
        eio_sid = self.eio_sid_from_sid(sid, namespace)
        rooms = self._rooms_of.get((namespace, sid), set()) - {but}
        for announcement, packet in events:
            if eio_sid is not None and not rooms.isdisjoint(announcement.header.rooms):
                self.server._send_eio_packet(eio_sid, packet)


def _is_told(announcement: Announcement, number: int) -> bool:
    return announcement.offset is not None and announcement.offset.number <= number
