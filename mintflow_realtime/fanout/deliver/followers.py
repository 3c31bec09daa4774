"""Who follows by server-sent events on this node, by room: each hears an event once, written once for all of them."""

from collections.abc import Callable
from typing import Protocol

from mintflow_realtime.metrics.series import DELIVERIES, RESYNCS
from mintflow_realtime.protocol.envelope import Announcement, Offset, Policy
from mintflow_realtime.protocol.server_sent import COMMENT, Shown, event, resync, shown

# Events for one that wait while what it missed is read.
MAX_HELD = 1000


class Stream(Protocol):
    """A connection that takes events."""

    @property
    def open(self) -> bool: ...

    @property
    def has_room(self) -> bool: ...

    def send(self, event: bytes, may_be_lost: bool = False, asked: bool = False) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class Follower:
    """One who follows some of a tenant's rooms in a namespace; one with `ends` only until such an event came."""

    __slots__ = ("tenant", "namespace", "rooms", "stream", "held", "_ends", "_position", "_sent", "_dropped")

    def __init__(
        self,
        tenant: str,
        namespace: str,
        rooms: tuple[str, ...],
        position: Callable[[str, str], Offset],
        ends: frozenset[str] = frozenset(),
        dropped: str = "",
    ) -> None:
        """`position` is how far this node has delivered; `dropped` is the event that tells of those that were lost."""
        self.tenant, self.namespace, self.rooms = tenant, namespace, rooms
        self.stream: Stream | None = None
        # What comes while it is not live yet; None from then on.
        self.held: list[Announcement] | None = []
        self._ends, self._position, self._dropped = ends, position, dropped
        self._sent = -1

    def hear(self, announcement: Announcement, told: Shown) -> None:
        """Take an event that was just announced."""
        if self.held is None:
            self.tell(announcement, told)
        elif len(self.held) < MAX_HELD:
            self.held.append(announcement)
        elif self.stream is not None:
            # It comes back, and goes on from what it had.
            self.stream.abort()

    def tell(self, announcement: Announcement, told: Shown, asked: bool = False) -> None:
        """Send an event; one that was missed and `asked` for is held against nobody."""
        stream, offset = self.stream, announcement.offset
        if stream is None:
            return
        stream.send(told.text, announcement.header.policy == Policy.DROP_OLDEST, asked)
        if offset is not None:
            self._sent = offset.number
        if told.name in self._ends:
            self.end(announcement.mark or str(offset))

    def end(self, id: str) -> None:
        """Say that nothing more is to come, and finish."""
        if self.stream is not None:
            self.stream.send(event("end", b"{}", id), asked=True)
            self.stream.finish()

    def begin(self, at: Offset, reason: str = "") -> None:
        """Say where to go on from, and why some may have been missed before that."""
        self._sent = at.number
        if reason:
            RESYNCS.add(reason)
        if self.stream is not None:
            self.stream.send(resync(reason, str(at)) if reason else event("position", b"{}", str(at)))

    @property
    def position(self) -> Offset:
        """How far this node has delivered what is followed."""
        return self._position(self.tenant, self.namespace)

    def quiet(self) -> bytes:
        """Return what is sent after a silence: where the log stands, if it moved, so that the id never is too old."""
        position = self.position
        if self.held is not None or position.number == self._sent:
            return COMMENT
        self._sent = position.number
        return event("position", b"{}", str(position))

    def missed(self, count: int) -> bytes:
        """Return what tells of events that were lost to a slow reader."""
        return event(self._dropped or "dropped", b'{"count":%d}' % count)


class Followers:
    """The followers of this node."""

    def __init__(self) -> None:
        self._rooms: dict[tuple[str, str], dict[Follower, None]] = {}
        self._tenants: dict[tuple[str, str], dict[Follower, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def enter(self, follower: Follower) -> None:
        """Let a follower hear what is announced from now on."""
        self._tenants.setdefault((follower.tenant, follower.namespace), {})[follower] = None
        for room in follower.rooms:
            self._rooms.setdefault((follower.namespace, room), {})[follower] = None

    def leave(self, follower: Follower) -> None:
        """Forget a follower, if it is here."""
        places = [(self._tenants, (follower.tenant, follower.namespace))]
        places += [(self._rooms, (follower.namespace, room)) for room in follower.rooms]
        for table, place in places:
            members = table.get(place)
            if members is not None:
                members.pop(follower, None)
                if not members:
                    del table[place]

    def deliver(self, namespace: str, announcement: Announcement) -> None:
        """Send an event to the followers of any of its rooms."""
        if not self._rooms:
            return
        found: dict[Follower, None] = {}
        for room in announcement.header.rooms:
            found.update(self._rooms.get((namespace, room), {}))
        told = shown(announcement) if found else None
        if told is None:
            return
        DELIVERIES.add(namespace, by=len(found))
        for follower in found:
            follower.hear(announcement, told)

    def tell_lost(self, tenant: str, namespace: str, reason: str) -> None:
        """Tell a tenant's followers that continuity ended."""
        for follower in tuple(self._tenants.get((tenant, namespace), ())):
            # One that is not live yet sees it by itself.
            if follower.held is None:
                follower.begin(follower.position, reason)
