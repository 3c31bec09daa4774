"""Reads the lines of clients' lives: the connections of one user, as far as an event's rooms are concerned."""

from typing import Any

import msgspec

from mintflow_realtime.fanout.lives import CLOSED, CONNECTED, DROPPED, ENTERED, LEFT, LOST, PAUSED, REFUSED, lines_with
from mintflow_realtime.protocol.why import AskWhy, NodeTells, RoomStay, Stay

# A user's clients that are told of.
MAX_CLIENTS = 32


class LifeReader:
    """Makes connections of lines. What it finds besides goes into `told`."""

    def __init__(self, asked: AskWhy, told: NodeTells) -> None:
        self._asked, self._told = asked, told
        self._rooms = frozenset(asked.rooms)
        self._who = b",".join(map(msgspec.json.encode, (asked.tenant, asked.user_id)))
        self._log = b",".join(map(msgspec.json.encode, (asked.tenant, asked.namespace)))
        self._sids: dict[str, bytes] = {}
        self.stays: list[Stay] = []

    def read(self, block: bytes) -> None:
        """Take some lines."""
        lines = [*lines_with(block, self._who), *lines_with(block, b'"y",' + self._log)]
        for line in lines:
            self._learn(msgspec.json.decode(line))
        for sid in self._sids.values():
            lines += lines_with(block, sid)
        # Each begins with its time; of two of one millisecond the one that was written first goes first.
        ordered = sorted({line: block.find(line) for line in lines}.items(), key=lambda pair: pair[1])
        for line, _ in ordered:
            self._take(msgspec.json.decode(line))

    def _learn(self, line: list[Any]) -> None:
        if line[1] == CONNECTED and line[3:6] == [self._asked.namespace, self._asked.tenant, self._asked.user_id]:
            self._sids.setdefault(line[2], msgspec.json.encode(line[2]))
            if len(self._sids) > MAX_CLIENTS:
                del self._sids[next(iter(self._sids))]

    def _take(self, line: list[Any]) -> None:
        at, kind, *rest = line
        if kind == REFUSED and rest[:3] == [self._asked.namespace, self._asked.tenant, self._asked.user_id]:
            self._told.refused = (at, rest[3])
        elif kind == LOST and rest[:2] == [self._asked.tenant, self._asked.namespace]:
            self._told.lost = (at, rest[2])
        elif kind in (CONNECTED, ENTERED, LEFT, DROPPED, PAUSED, CLOSED) and rest[1] == self._asked.namespace:
            if rest[0] in self._sids:
                self._of_client(at, kind, *rest)

    def _of_client(self, at: float, kind: str, sid: str, _: str, *rest: Any) -> None:
        stay = self.open_stay(sid)
        if kind == CONNECTED:
            stay = self.begin(sid, at)
            stay.position, stay.replayed_from, stay.resync = rest[2:5]
        elif stay is None:
            return
        elif kind == ENTERED and rest[0] in self._rooms:
            stay.rooms.append(RoomStay(room=rest[0], since=rest[1], since_at=at))
        elif kind == LEFT and rest[0] in self._rooms:
            one = self.is_in(stay, rest[0], rest[2])
            if one is not None:
                one.until, one.until_at = rest[1], at
        elif kind == DROPPED:
            stay.dropped.append((rest[0], rest[1]))
        elif kind == PAUSED:
            stay.pauses.append((rest[0], at))
        elif kind == CLOSED:
            stay.closed_at, stay.closed_position, stay.closed = at, rest[0], rest[1]
            stay.unsent, stay.told, stay.told_at = rest[3:6]
            for room, since in rest[2].items():
                self.is_in(stay, room, since)

    def open_stay(self, sid: str) -> Stay | None:
        """Return a client's connection that lasts."""
        return next((stay for stay in reversed(self.stays) if stay.sid == sid and not stay.closed_at), None)

    def begin(self, sid: str, at: float) -> Stay:
        """Begin a connection."""
        stay = Stay(sid=sid, connected_at=at, rooms=[], dropped=[])
        self.stays.append(stay)
        return stay

    def is_in(self, stay: Stay, room: str, since: str) -> RoomStay | None:
        """Note that a client is in a room still, which may have been entered before any line; None for other rooms."""
        if room not in self._rooms:
            return None
        for one in reversed(stay.rooms):
            if one.room == room and not one.until_at:
                one.since = since or one.since
                return one
        one = RoomStay(room=room, since=since)
        stay.rooms.append(one)
        return one
