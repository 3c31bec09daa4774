"""Sessions of clients that recover: what a node must know to go on with one that another node began.

Each has a generation, one for each connection in turn. Whoever acts for an older one acts no more.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.envelope import Offset, parse_offset
from mintflow_realtime.protocol.scripts import Arg, Keys, Runner, Script

# While connected a session is refreshed every quarter of the window, so that a killed worker's clients have at
# least the whole window to come back.
LIFE_SHARE = 1.25
REFRESH_SHARE = 0.25
# Sessions refreshed in one script: about a millisecond.
SLICE = 500
MAX_PID = 64
# How often a session may be taken over within a minute from a connection that looks open.
MAX_TAKEN = 3

_claim = Script.beside(__file__, "session_claim.lua")
_save = Script.beside(__file__, "session_save.lua")
_release = Script.beside(__file__, "session_release.lua")
_refresh = Script.beside(__file__, "session_refresh.lua")
_taken = Script.beside(__file__, "session_taken.lua")
_confirm = Script.beside(__file__, "session_confirm.lua")


class NotRecovered(Exception):
    """A session doesn't go on; `reason` is what `resync` says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Claimed:
    """A session taken over: whose it was, what its namespace kept in it, and the node that may still hold it.

    `replayed` is the offset that its last connection came with; "" where it is known to have heard its CONNECT.
    """

    session: Session
    user_id: str
    memo: str
    node: str
    open: bool
    replayed: str


def new_pid(tenant: str) -> str:
    """Return 128 random bits, and a mark by which another tenant's is told from a forgotten one."""
    return f"{secrets.token_urlsafe(16)}.{_mark(tenant)}"


def _mark(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()[:8]


class SessionStore:
    """The sessions of every tenant, in Redis for `window_seconds` after their connection. `node` is this one."""

    def __init__(self, redis: Runner, keys: Keys, node: str, window_seconds: float) -> None:
        self._redis, self._keys, self._node = redis, keys, node
        self.window_seconds = window_seconds
        self._life_ms = round(window_seconds * LIFE_SHARE * 1000)

    def claim(self, tenant: str, namespace: str, pid: str, user: str | None, scope: str, shown: str = "") -> Claimed:
        """Take over a session for this node, under a new generation; `user` is None for an anonymous one.

        `shown` is the offset that its client came with, as a text.

        Raises NotRecovered (`expired`, `tenant`, `user`, `scope`, `taken` by others again and again), Unavailable.
        """
        if len(pid) > MAX_PID or pid.rpartition(".")[2] != _mark(tenant):
            raise NotRecovered("tenant" if len(pid) <= MAX_PID and "." in pid else "expired")
        args: list[Arg] = [user or "", "0" if user else "1", scope, self._node, self._life_ms, shown, MAX_TAKEN]
        reply = [text.decode() for text in self._redis.run(_claim, [self._key(tenant, namespace, pid)], args)]
        if reply[0] != "ok":
            raise NotRecovered("expired" if reply[0] == "unknown" else reply[0])
        fields = dict(zip(reply[4::2], reply[5::2], strict=True))
        session = Session(tenant, namespace, fields["sid"], pid, fields["start"], int(reply[1]), saved=True)
        session.rooms = {name[2:]: since for name, since in fields.items() if name.startswith("r:")}
        session.resync = fields.get("resync", "")
        return Claimed(session, fields["user"], fields["memo"], reply[2], reply[3] == "1", fields.get("replayed", ""))

    def taken(self, session: Session) -> None:
        """Count that a session was taken from a connection whose client was there still. Raises Unavailable."""
        self._redis.run(_taken, [self._key_of(session)], [])

    def confirm(self, session: Session) -> None:
        """Write down that the client has heard the CONNECT of its last connection. Raises Unavailable."""
        self._redis.run(_confirm, [self._key_of(session)], [session.generation])

    def save(self, session: Session, fields: Callable[[], dict[str, str]]) -> bool:
        """Save what has changed; return False where a newer generation has it. Raises Unavailable.

        `fields()` are `user`, `anonymous` (1 or 0), `scope` and `memo`, as they are when no other save is at work.
        """
        with session.saving:
            changed, session.changed = session.changed, set()
            session.stale = False
            values = {
                **fields(),
                "sid": session.sid,
                "start": session.start,
                "resync": session.resync,
                "node": self._node,
                "open": "1",
            }
            try:
                answer = self._write(session, values, changed, whole=not session.saved)
                if answer == b"missing":
                    # Redis has lost everything. Only an offset from after that says what this client has.
                    values["start"] = session.start = ""
                    answer = self._write(session, values, session.rooms, whole=True)
            except BaseException:
                session.changed |= changed
                session.stale = True
                raise
            session.saved = True
            return bool(answer == b"ok")

    def _write(self, session: Session, values: dict[str, str], rooms: Iterable[str], *, whole: bool) -> Any:
        rooms = session.rooms if whole else rooms
        entered = {room: session.rooms[room] for room in rooms if room in session.rooms}
        args: list[Arg] = [session.generation, self._life_ms, int(whole), len(values)]
        args += [text for pair in values.items() for text in pair]
        args += [len(entered), *(text for pair in entered.items() for text in pair)]
        args += [room for room in rooms if room not in session.rooms]
        return self._redis.run(_save, [self._key_of(session)], args)

    def release(self, session: Session, *, for_good: bool) -> bool:
        """Note that the connection ended; return False where a newer generation goes on. Raises Unavailable."""
        life = 0 if for_good else max(1, round(self.window_seconds * 1000))
        return bool(self._redis.run(_release, [self._key_of(session)], [session.generation, life]))

    def acknowledged(self, session: Session) -> bool:
        """Tell whether the node that held the generation before has let go of it. Raises Unavailable."""
        found = self._redis.command("HGET", self._key_of(session), "acked")
        return found is not None and int(found) >= session.generation - 1

    def refresh(self, tenant: str, sessions: Sequence[Session]) -> list[tuple[Session, int]]:
        """Let a tenant's sessions live on; return those that are gone (0) or superseded (-1). Raises Unavailable."""
        found = []
        for first in range(0, len(sessions), SLICE):
            some = sessions[first : first + SLICE]
            args: list[Arg] = [self._life_ms, *(session.generation for session in some)]
            reply = self._redis.run(_refresh, [self._key_of(session) for session in some], args)
            found += [(session, state) for session, state in zip(some, reply, strict=True) if state != 1]
        return found

    def _key_of(self, session: Session) -> str:
        return self._key(session.tenant, session.namespace, session.pid)

    def _key(self, tenant: str, namespace: str, pid: str) -> str:
        # Hashed: who reads the keys of Redis learns no pid.
        return self._keys.of(tenant, "session", namespace, hashlib.sha256(pid.encode()).hexdigest()[:32])


def read_offset(text: object, start: str) -> Offset:
    """Read the offset that a client shows; None counts as the session's start.

    Raises NotRecovered: `offset` for an unreadable one, `epoch` where there is none and no start either.
    """
    if text is None and start:
        text = start
    if isinstance(text, str) and len(text) <= MAX_PID:
        try:
            offset = parse_offset(text)
        except ValueError:
            offset = None
        if offset is not None:
            return offset
    raise NotRecovered("epoch" if text is None else "offset")
