"""The clients of this node that recover: what each was told last, and which rooms it is in since when.

Every event to one of them ends with an offset as a last text argument. The stock client keeps any last text as its
offset, so there is no exception but an event that asks for an ack, whose last argument there is a function.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

from mintflow_realtime.fanout.deliver.history_then_live import HistoryThenLive
from mintflow_realtime.fanout.lives import ENTERED, LEFT, Lives
from mintflow_realtime.fanout.rooms import tenant_of, tenant_room
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.envelope import ORIGIN, Offset
from mintflow_realtime.protocol.wire_json import dumps

# A client that hears nothing in its rooms is told where its tenant's log stands, before the log is trimmed so far.
TOLD_SECONDS = 60.0
TOLD_EVENTS = 1000
# How often, in events of a log, this node looks who is behind; the last look is then soon enough.
LOOK_EVENTS = 250


class Positions(HistoryThenLive):
    """Membership that knows recovering clients; `position(tenant, namespace)` is how far this node has delivered."""

    position: Callable[[str, str], Offset]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recovering: dict[str, dict[str, Session]] = {}
        self.unsaved: set[Session] = set()
        self.lives: Lives | None = None
        # Whose rooms are entered because it has just connected, which `lives` knows: a line for each would double
        # what an idle client costs.
        self.joining = ""

    def follow(self, session: Session) -> None:
        """Take in a client that recovers; it is in the namespace's table, or about to be connected."""
        self._recovering.setdefault(session.namespace, {})[session.sid] = session

    def session(self, sid: str, namespace: str) -> Session | None:
        """Return the session of a recovering client of this node."""
        return self._recovering.get(namespace, {}).get(sid)

    def forget(self, sid: str, namespace: str) -> None:
        """Forget a client whose connection ends, at once."""
        self.basic_disconnect(sid, namespace)

    def sessions(self) -> list[Session]:
        """Return the sessions of all recovering clients of this node."""
        return [session for table in self._recovering.values() for session in table.values()]

    def rename(self, sid: str, namespace: str, to: str) -> None:
        """Give a client that is connecting, and in no room yet, the sid of the session that it goes on with."""
        table = self.rooms[namespace][None]
        eio_sid = table.pop(sid)
        table[to] = eio_sid
        self._rooms_of[namespace, to] = self._rooms_of.pop((namespace, sid))
        self._connecting.remove((namespace, sid))
        self._connecting.add((namespace, to))

    def offset_of(self, sid: str, namespace: str) -> str:
        """Return the offset that goes with an event that has none of its own; "" for one that doesn't recover."""
        session = self.session(sid, namespace)
        if session is None:
            return ""
        held = self._held.get((namespace, sid))
        return str(self.position(session.tenant, namespace)) if held is None else held.mark

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None:
        """Send one event to one client of this node."""
        self._send_one(sid, namespace, [event, payload])

    def send_position(self, session: Session, unlike: str = "") -> None:
        """Tell a client where the log stands that it follows, in another text than `unlike`."""
        mark = self.offset_of(session.sid, session.namespace)
        if mark == unlike:
            epoch, _, number = mark.rpartition("-")
            mark = f"{epoch}-0{number}"
        self._send_one(session.sid, session.namespace, ["position"], mark)

    def _send_one(self, sid: str, namespace: str, arguments: list[Any], mark: str = "") -> None:
        eio_sid = self.eio_sid_from_sid(sid, namespace)
        if eio_sid is None:
            return
        session = self.session(sid, namespace)
        if session is not None:
            arguments.append(mark or self.offset_of(sid, namespace))
            if (namespace, sid) not in self._held:
                session.sent = self.position(session.tenant, namespace).number
                session.sent_at = time.monotonic()
        self.server.post(eio_sid, self._message(namespace, dumps(arguments)))

    def send_positions_to(self, namespace: str, tenant: str) -> None:
        """Tell those of a tenant's clients who are far behind."""
        sessions = self._recovering.get(namespace, {})
        members = self.rooms.get(namespace, {}).get(tenant_room(tenant), {})
        self.send_positions([sessions[sid] for sid in members if sid in sessions])

    def send_positions(self, sessions: Iterable[Session] | None = None) -> None:
        """Tell those who are a minute or nearly 1,000 events behind, of `sessions` or of all."""
        now, stands = time.monotonic(), {}
        for session in self.sessions() if sessions is None else sessions:
            place = (session.tenant, session.namespace)
            if place not in stands:
                stands[place] = self.position(*place).number
            behind = abs(stands[place] - session.sent)
            if behind and (behind >= TOLD_EVENTS - LOOK_EVENTS or now - session.sent_at >= TOLD_SECONDS):
                client = (session.namespace, session.sid)
                if client not in self._held and client not in self._connecting:
                    self.send_position(session)

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Put a connected sid into a room. Raises ValueError where it isn't connected, or the room is a sid's own."""
        new = room not in self._rooms_of.get((namespace, sid), ())
        super().basic_enter_room(sid, namespace, room, eio_sid)
        session = self.session(sid, namespace)
        if session is not None and room != sid and room not in session.rooms:
            session.rooms[room] = str(self.position(session.tenant, namespace))
            self._note(session, room)
        elif session is not None:
            return
        if self.lives is not None and new and room != sid != self.joining:
            self.lives.note(ENTERED, sid, namespace, room, self._position_in(room, namespace))

    def basic_leave_room(self, sid: str, namespace: str, room: str) -> None:
        here = room in self._rooms_of.get((namespace, sid), ())
        super().basic_leave_room(sid, namespace, room)
        session = self.session(sid, namespace)
        since = None if session is None else session.rooms.pop(room, None)
        if session is not None and since is not None:
            self._note(session, room)
        if self.lives is not None and here:
            self.lives.note(LEFT, sid, namespace, room, self._position_in(room, namespace), since or "")

    def _position_in(self, room: str, namespace: str) -> str:
        tenant = tenant_of(room)
        return str(self.position(tenant, namespace)) if tenant else ""

    def catch_up(self, sid: str, tenant: str, namespace: str, number: int, leaving: Any = ()) -> None:
        held = self._held.get((namespace, sid))
        super().catch_up(sid, tenant, namespace, number, leaving)
        session = self.session(sid, namespace)
        if session is not None and held is not None and held.room in session.rooms:
            # The answer tells of what was before; replay must not tell it again.
            epoch = self.position(tenant, namespace).epoch
            session.rooms[held.room] = str(Offset(epoch, number)) if number else str(ORIGIN)
            self._note(session, held.room)

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        sessions = self._recovering.get(namespace, {})
        session = sessions.pop(sid, None)
        if session is not None:
            self.unsaved.discard(session)
            if not sessions:
                del self._recovering[namespace]
        super().basic_disconnect(sid, namespace, **kwargs)

    def _note(self, session: Session, room: str) -> None:
        session.changed.add(room)
        session.stale = True
        self.unsaved.add(session)

    def _message(self, namespace: str, arguments: str, policy: str = "close", key: str = "", mark: str = "") -> Any:
        """Return an event encoded once for any number of clients; `arguments` is JSON text."""
        prefix = "2" if namespace == "/" else f"2{namespace},"
        return self.server.message(prefix + arguments, policy, f"{namespace} {key}", mark)


def marked(arguments: str, mark: str) -> str:
    """Return an event's arguments (JSON text of a list) with an offset as the last."""
    return f'{arguments[:-1]},"{mark}"]'
