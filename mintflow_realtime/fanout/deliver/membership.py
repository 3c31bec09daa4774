"""Who is in which room on this node, with an index from each sid to its rooms.

The library scans every room when a client leaves (10,000 clients: 8.4 s of a blocked loop) and keeps a two-way
table for each room. Here only the namespace's own table is two-way, and leaving costs what was joined.
"""

import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from bidict import ValueDuplicationError, bidict
from socketio.base_manager import BaseManager

# What the engine's ids look like. A room must never have this form, or a client could be put into another
# client's own room from a node that doesn't hold it.
_SID = re.compile(r"\A[0-9a-f]{8}[A-Za-z0-9_-]{20}\Z")

ACK_SECONDS = 120.0


def is_sid(room: object) -> bool:
    """Tell whether `room` has the form of a sid."""
    return isinstance(room, str) and _SID.match(room) is not None


class Membership(BaseManager):  # type: ignore[misc]
    """The library's tables of clients and rooms, with bounds and without scans."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # rooms[namespace][None] is the two-way table of all sids; other rooms are plain {sid: eio_sid}.
        self._rooms_of: dict[tuple[str, str], set[str]] = {}
        self._connecting: set[tuple[str, str]] = set()
        self._leaving: set[tuple[str, str]] = set()
        self._ack_ids = itertools.count(1)
        self._ack_deadlines: dict[tuple[str, int], float] = {}

    def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Give a connection its sid in a namespace, or None where it has one already."""
        sid: str = self.server.eio.generate_id()
        try:
            self.rooms.setdefault(namespace, {}).setdefault(None, bidict())[sid] = eio_sid
        except ValueDuplicationError:
            return None
        self._rooms_of[namespace, sid] = set()
        self._connecting.add((namespace, sid))
        return sid

    def connect(self, sid: str, namespace: str) -> str:
        """Count a client as connected: it was admitted and told so."""
        self._connecting.discard((namespace, sid))
        return sid

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        return (namespace, sid) in self._connecting

    def is_connected(self, sid: str, namespace: str) -> bool:
        place = (namespace, sid)
        return place in self._rooms_of and place not in self._connecting and place not in self._leaving

    def pre_disconnect(self, sid: str, namespace: str) -> str | None:
        if (namespace, sid) not in self._rooms_of:
            return None
        self._leaving.add((namespace, sid))
        eio_sid: str = self.rooms[namespace][None][sid]
        return eio_sid

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        place = (namespace, sid)
        for room in self._rooms_of.pop(place, ()):
            self._drop(sid, namespace, room)
        self._drop(sid, namespace, None)
        self._connecting.discard(place)
        self._leaving.discard(place)
        for ack_id in self.callbacks.pop(sid, ()):
            self._ack_deadlines.pop((sid, ack_id), None)

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Put a connected sid into a room. Raises ValueError where it isn't connected, or the room is a sid's own."""
        rooms = self._rooms_of.get((namespace, sid))
        if rooms is None:
            raise ValueError("sid is not connected to requested namespace")
        if is_sid(room) and room != sid:
            raise ValueError("cannot enter a sid room")
        if room != sid:
            rooms.add(room)
            table = self.rooms[namespace]
            table.setdefault(room, {})[sid] = table[None][sid]

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        rooms = self._rooms_of.get((namespace, sid))
        if rooms is not None and room in rooms:
            rooms.discard(room)
            self._drop(sid, namespace, room)

    def basic_close_room(self, room: str, namespace: str) -> None:
        if is_sid(room):
            raise ValueError("cannot close a sid room")
        for sid in list(self.rooms.get(namespace, {}).get(room, ())):
            self.basic_leave_room(sid, namespace, room)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        rooms = self._rooms_of.get((namespace, sid))
        return [] if rooms is None else [sid, *rooms]

    def room_count(self, sid: str, namespace: str) -> int:
        """Return how many rooms a sid is in, its own not counted."""
        return len(self._rooms_of.get((namespace, sid), ()))

    def recipients(self, namespace: str, rooms: Any) -> dict[str, str]:
        """Return {sid: eio_sid} of everyone in any of `rooms` (one name, several, or None for all), each once."""
        table = self.rooms.get(namespace)
        if table is None:
            return {}
        if rooms is None or isinstance(rooms, str):
            rooms = (rooms,)
        found: dict[str, str] = {}
        everyone = table[None]
        for room in rooms:
            if room is None:
                found.update(everyone)
            elif room in everyone:
                found[room] = everyone[room]
            elif room in table:
                found.update(table[room])
        return found

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        for sid, eio_sid in self.recipients(namespace, room).items():
            # A socket that is not admitted yet gets no broadcast.
            if (namespace, sid) not in self._connecting:
                yield sid, eio_sid

    def _generate_ack_id(self, sid: str, callback: Callable[..., None]) -> int:
        # One count for all: an id that was forgotten must never come to mean a later question.
        ack_id = next(self._ack_ids)
        self.callbacks.setdefault(sid, {})[ack_id] = callback
        self._ack_deadlines[sid, ack_id] = time.monotonic() + ACK_SECONDS
        return ack_id

    def trigger_callback(self, sid: str, id: int, data: list[Any]) -> None:
        callback = self._forget_ack(sid, id)
        if callback is not None:
            callback(*data)

    def forget_unanswered(self) -> int:
        """Drop callbacks of acks that never came within two minutes; return how many."""
        now = time.monotonic()
        late = [place for place, deadline in self._ack_deadlines.items() if deadline < now]
        for sid, ack_id in late:
            self._forget_ack(sid, ack_id)
        return len(late)

    def _forget_ack(self, sid: str, ack_id: int) -> Callable[..., None] | None:
        self._ack_deadlines.pop((sid, ack_id), None)
        waiting = self.callbacks.get(sid, {})
        callback: Callable[..., None] | None = waiting.pop(ack_id, None)
        if not waiting:
            self.callbacks.pop(sid, None)
        return callback

    def _drop(self, sid: str, namespace: str, room: str | None) -> None:
        table = self.rooms.get(namespace)
        members = table.get(room) if table is not None else None
        if table is None or members is None:
            return
        members.pop(sid, None)
        if not members:
            del table[room]
            if not table:
                del self.rooms[namespace]
