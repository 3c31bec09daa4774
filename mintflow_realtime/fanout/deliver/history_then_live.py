"""History, then live: what arrives for one client while its history is read, and how the two are joined.

A hold begins before the history is read. The history is as of a number of the event log; `catch_up` waits until this
node has heard up to there and settles what came until then; `end_history` lets go of the rest once the answer is sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mintflow_realtime.fanout.deliver.membership import Membership
from mintflow_realtime.metrics.series import RESYNCS
from mintflow_realtime.protocol.envelope import Announcement

# Events for one client that wait while its history is read; beyond, it is told to fetch anew.
MAX_HELD = 1000


@dataclass(slots=True)
class HeldEvents:
    """`room` is the one whose history is read, None where the client was in it before: then it loses nothing by it.

    `mark` is the offset up to which a recovering client has been sent what is its, while others wait.
    """

    room: str | None
    mark: str = ""
    waiting: list[tuple[Announcement, Any]] = field(default_factory=list)
    lost: bool = False
    overflowed: bool = False


class HistoryThenLive(Membership):
    """Membership whose clients' events can be held; `wait_until_passed(tenant, namespace, number)` is the node's."""

    wait_until_passed: Callable[[str, str, int], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[tuple[str, str], HeldEvents] = {}
        self._told: dict[tuple[str, str], dict[str, Callable[[str], bool]]] = {}

    def begin_history(self, sid: str, namespace: str, room: str) -> None:
        """Enter `room`, and keep what arrives for `sid` until `end_history`. Raises ValueError where it is gone."""
        new = room not in self._rooms_of.get((namespace, sid), ())
        self.basic_enter_room(sid, namespace, room)
        self._held[namespace, sid] = HeldEvents(room if new else None, self.offset_of(sid, namespace))

    def begin_replay(self, sid: str, namespace: str, rooms: Iterable[str]) -> None:
        """Enter `rooms`, and keep what arrives for `sid`, which is connecting, until `end_history`."""
        for room in rooms:
            self.basic_enter_room(sid, namespace, room)
        self._held[namespace, sid] = HeldEvents(None, self.offset_of(sid, namespace))

    def offset_of(self, sid: str, namespace: str) -> str:
        """Return the offset up to which a recovering client has been sent what is its; "" for others."""
        return ""

    def catch_up(self, sid: str, tenant: str, namespace: str, number: int, leaving: Sequence[str] = ()) -> None:
        """Say that the answer tells of the held room's events up to `number`, and leave the rooms that end there.

        Waits until this node has heard up to there, and sends what the client's other rooms let it hear of that.
        Raises Unavailable after 2 s.
        """
        self.wait_until_passed(tenant, namespace, number)
        held = self._held.get((namespace, sid))
        if held is not None and not held.lost:
            told = [event for event in held.waiting if _is_told(event[0], number)]
            held.waiting = [event for event in held.waiting if not _is_told(event[0], number)]
            self._send_entitled(sid, namespace, told, held.room)
        for room in leaving:
            self.basic_leave_room(sid, namespace, room)

    def skip_told(self, sid: str, namespace: str, room: str, told: Callable[[str], bool]) -> None:
        """Keep from a client the events of `room` whose arguments (JSON text) `told` knows, up to one it does not.

        For events without a number, of which an answer tells by a count of their own.
        """
        self._told.setdefault((namespace, sid), {})[room] = told

    def end_history(self, sid: str, namespace: str, told: Mapping[str, int] | None = None) -> None:
        """Send what was kept, now that the answer with the history is sent; does nothing without a held.

        `told` says up to which number the client was told of a room's events that have none.
        """
        held = self._held.get((namespace, sid))
        if held is None:
            return
        waiting = [event for event in held.waiting if not told or not _was_in(event[0], told)]
        self._send_entitled(sid, namespace, waiting, None)
        del self._held[namespace, sid]
        if held.overflowed:
            RESYNCS.add("gap")
            self.send_to(sid, namespace, "resync", {"reason": "gap"})

    def is_held(self, sid: str, namespace: str, announcement: Announcement, message: Any) -> bool:
        """Keep an event for a client whose history is being read, or that was told of it; else return False."""
        held = self._held.get((namespace, sid))
        if held is None:
            return self._was_told(sid, namespace, announcement)
        if len(held.waiting) < MAX_HELD:
            held.waiting.append((announcement, message))
        else:
            held.overflowed = True
        return True

    def forget_history(self, sid: str, namespace: str) -> None:
        """Note that the log was lost: a history of the old numbering says nothing of the new one's events."""
        held = self._held.get((namespace, sid))
        if held is not None:
            held.lost = True

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None:
        """Send one event to one client of this node."""
        raise NotImplementedError

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        super().basic_disconnect(sid, namespace, **kwargs)
        self._held.pop((namespace, sid), None)
        self._told.pop((namespace, sid), None)

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        super().basic_leave_room(sid, namespace, room)
        self._forget_told(sid, namespace, room)

    def _send_entitled(
        self, sid: str, namespace: str, events: Sequence[tuple[Announcement, Any]], but: str | None
    ) -> None:
        eio_sid = self.eio_sid_from_sid(sid, namespace)
        rooms = {sid, *self._rooms_of.get((namespace, sid), ())} - {but}
        held = self._held.get((namespace, sid))
        for announcement, message in events:
            if held is not None and held.mark:
                held.mark = announcement.mark or str(announcement.offset)
            if eio_sid is None or rooms.isdisjoint(announcement.header.rooms):
                continue
            if not self._was_told(sid, namespace, announcement):
                self.server.post(eio_sid, message)

    def _was_told(self, sid: str, namespace: str, announcement: Announcement) -> bool:
        tests = self._told.get((namespace, sid), {})
        for room in announcement.header.rooms if tests else ():
            told = tests.get(room)
            if told is not None:
                if told(announcement.arguments):
                    return True
                self._forget_told(sid, namespace, room)
        return False

    def _forget_told(self, sid: str, namespace: str, room: str) -> None:
        tests = self._told.get((namespace, sid), {})
        tests.pop(room, None)
        if not tests:
            self._told.pop((namespace, sid), None)


def _was_in(announcement: Announcement, told: Mapping[str, int]) -> bool:
    return announcement.offset is None and all(announcement.after < told.get(r, 0) for r in announcement.header.rooms)


def _is_told(announcement: Announcement, number: int) -> bool:
    # A volatile event is announced before the numbered one that it belongs to.
    return announcement.after < number if announcement.offset is None else announcement.offset.number <= number
