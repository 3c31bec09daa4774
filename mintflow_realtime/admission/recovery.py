"""Clients that come back: their sessions begin, go on with another connection or on another node, and are kept.

The one who acts for a session holds its current generation; everybody else lets go of what is local and says nothing.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gevent

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.takeover import Takeover
from mintflow_realtime.auth.policy import scope_of
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.deliver.positions import Positions
from mintflow_realtime.fanout.recover.replay import Missed, Replay
from mintflow_realtime.fanout.recover.sessions import REFRESH_SHARE, NotRecovered, SessionStore, new_pid, read_offset
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.metrics.series import RECOVERIES, RESYNCS
from mintflow_realtime.protocol.envelope import Offset, parse_offset
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog

POSITIONS_SECONDS = 5.0

_rare = RareLog(logging.getLogger("mintflow.recovery"))


@dataclass(slots=True)
class SessionStart:
    """How a client that recovers begins: its session; if it goes on, what was missed and kept; if not, why not.

    `shown` is the offset that it came with.
    """

    session: Session
    principal: Principal
    missed: Missed | None = None
    memo: str = ""
    resync: str = ""
    shown: str = ""


class ReplayUncertain(Exception):
    """A client may hold events of a replay that was cut, and is to pass them on before it goes on with `session`."""

    def __init__(self, session: Session) -> None:
        super().__init__("It may hold events of a replay that was cut")
        self.session = session


class SessionRecovery(Takeover):
    """The sessions of this node's clients. `memo_of(client)` is what a client's namespace keeps in its session."""

    memo_of: Callable[[Client], str]

    def __init__(
        self,
        store: SessionStore,
        replay: Replay,
        rooms: Positions,
        clients: Clients,
        notify: Callable[[str, str], bool],
    ) -> None:
        super().__init__(store, rooms, clients, notify)
        self._replay = replay
        self._refresh_at = time.monotonic()
        self._positions_at = 0.0

    def begin(self, principal: Principal, sid: str, namespace: str, auth: Any) -> SessionStart | None:
        """Return how a connecting client begins, None for one that does not recover.

        Raises Unavailable, and ReplayUncertain.
        """
        if not isinstance(auth, Mapping) or auth.get("recover") is not True:
            return None
        reason = ""
        if auth.get("pid") is not None:
            try:
                start = self._go_on(principal, namespace, auth)
                RECOVERIES.add("recovered")
                return start
            except NotRecovered as no:
                reason = no.reason
                RECOVERIES.add(reason)
            except ReplayUncertain:
                RECOVERIES.add("to_pass_on")
                raise
            except Unavailable:
                RECOVERIES.add("unavailable")
                raise
        tenant = principal.tenant
        position = str(self._rooms.position(tenant, namespace))
        session = Session(tenant, namespace, sid, new_pid(tenant), position, resync=reason)
        return SessionStart(session, principal, resync=reason)

    def _go_on(self, principal: Principal, namespace: str, auth: Mapping[str, Any]) -> SessionStart:
        pid, shown = auth["pid"], auth.get("offset")
        if not isinstance(pid, str):
            raise NotRecovered("expired")
        if shown is not None:
            read_offset(shown, "")
        user = None if principal.anonymous else principal.user_id
        text = str(shown or "-")
        scope = scope_of(principal.permissions, principal.admin)
        claimed = self._store.claim(principal.tenant, namespace, pid, user, scope, text)
        session = claimed.session
        principal = replace(principal, user_id=claimed.user_id)
        if claimed.replayed == text:
            # Its last connection was cut before it had heard CONNECT, or it would show what came right behind that.
            # What came before CONNECT the stock client keeps, and would have twice with this replay. So it is told that
            # it is connected, passes on what it has, and comes back with the offset of that.
            self._evict(claimed)
            raise ReplayUncertain(session)
        try:
            self._evict(claimed)
            missed = self._replay.missed(session, read_offset(shown, session.start))
        except NotRecovered:
            with suppress(Unavailable):
                self._store.release(session, for_good=True)
            raise
        told = session.resync
        if told and shown is not None and not _is_before(read_offset(shown, ""), session.start):
            session.resync = told = ""
        return SessionStart(session, principal, missed, claimed.memo, told, text)

    def adopt(self, sid: str, session: Session) -> None:
        """Make a connecting client's sid its session's. Raises Unavailable where a newer connection goes on with it."""
        while (other := self._rooms.session(session.sid, session.namespace)) is not None:
            if other.generation >= session.generation:
                raise Unavailable("Another connection goes on with this session")
            self._drop_session(other)
        if session.sid != sid:
            self._rooms.rename(sid, session.namespace, session.sid)
        self._rooms.follow(session)

    def save_changes(self, client: Client) -> None:
        """Save what changed of a client's session, before it is told so. Raises Unavailable."""
        session = client.recovery
        # A save that is under way may hold this command's change, and isn't there yet.
        unsaved = session is not None and (session.stale or session.saving.locked())
        if session is not None and unsaved and not self._save(client, session):
            raise Unavailable("Another connection goes on with this session")

    def touch(self, client: Client) -> None:
        """Note that a client's permissions changed."""
        if client.recovery is not None:
            client.recovery.stale = True
            self._rooms.unsaved.add(client.recovery)

    def replay(self, client: Client, instead: Callable[[str, str], tuple[str, int]]) -> None:
        """Send what a client missed, and enter its rooms. Raises Unavailable."""
        if client.recovery is not None and client.missed is not None:
            missed, client.missed = client.missed, None
            self._replay.replay(client.recovery, missed, instead)

    def announce(self, client: Client, resync: str) -> None:
        """Tell a client that was just connected where the log stands, and why it wasn't recovered; save its session."""
        session = client.recovery
        if session is None:
            return
        if resync:
            RESYNCS.add(resync)
            # First: who has an offset of this session has heard it then.
            self._rooms.send_to(client.sid, client.namespace, "resync", {"reason": resync})
        self._rooms.send_position(session, unlike=client.shown)
        if not session.saved:
            self.touch(client)
            # A failure is tried again with the next tick; a client that comes back before is told that it is unknown.
            with suppress(Unavailable):
                self._save(client, session)

    def taken_alive(self, session: Session) -> None:
        """Note that a connection answered still when its session was taken from it."""
        with suppress(Unavailable):
            self._store.taken(session)

    def replay_confirmed(self, session: Session) -> None:
        """Note that a client has passed on what it held, and is sent away to come back."""
        with suppress(Unavailable):
            self._store.confirm(session)
            self._store.release(session, for_good=False)

    def left(self, client: Client, *, for_good: bool) -> str:
        """Note that a client is gone from here; return `left`, `away` where it may come back, `moved` where it has."""
        session = client.recovery
        if session is None:
            return "left"
        try:
            if session.changed and not for_good:
                # Rooms of a stock namespace's, that no answer waited for.
                self._store.save(session, lambda: client.kept(self.memo_of(client)))
            if not self._store.release(session, for_good=for_good):
                return "moved"
        except Unavailable as error:
            _rare.warning(f"a session could not be let go of: {error}")
        return "left" if for_good else "away"

    def tick(self) -> None:
        """Save and refresh sessions, and tell idle clients where their logs stand; due several times a second."""
        try:
            for session in tuple(self._rooms.unsaved):
                client = self._client_of(session)
                if client is not None:
                    self._save(client, session)
            now = time.monotonic()
            if now >= self._refresh_at:
                self._refresh()
                self._refresh_at = now + self._store.window_seconds * REFRESH_SHARE
        except Unavailable as error:
            _rare.warning(f"sessions wait: {error}")
        if time.monotonic() >= self._positions_at:
            self._positions_at = time.monotonic() + POSITIONS_SECONDS
            self._rooms.send_positions()

    def _refresh(self) -> None:
        by_tenant: dict[str, list[Session]] = {}
        for session in self._rooms.sessions():
            if session.saved:
                by_tenant.setdefault(session.tenant, []).append(session)
        for tenant, sessions in by_tenant.items():
            for session, state in self._store.refresh(tenant, sessions):
                client = self._client_of(session)
                if client is None:
                    continue
                if state == 0:
                    self._save(client, session)
                else:
                    gevent.spawn(self._drop_later, session)

    def _save(self, client: Client, session: Session) -> bool:
        current = self._store.save(session, lambda: client.kept(self.memo_of(client)))
        self._rooms.unsaved.discard(session)
        if session.stale:
            # It changed while it was saved.
            self._rooms.unsaved.add(session)
        if not current:
            gevent.spawn(self._drop_later, session)
        return current


def _is_before(shown: Offset, start: str) -> bool:
    """Tell whether an offset is of a time before a session's start: its client has heard nothing of this session."""
    began = parse_offset(start) if start else None
    return began is not None and (shown.epoch != began.epoch or shown.number < began.number)
