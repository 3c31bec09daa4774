"""A session has one connection at a time: whoever holds an older one lets go of it, here and on other nodes."""

import time
from collections.abc import Callable
from contextlib import suppress

import gevent

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.fanout.deliver.positions import Positions
from mintflow_realtime.fanout.recover.sessions import Claimed, SessionStore
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.errors import Unavailable

# How long a node that still holds the old connection is waited for. Nothing that it does later does harm.
EVICT_SECONDS = 0.5
# A command of the old connection that is at work ends first: it might enter rooms of the new one.
BUSY_SECONDS = 2.0


class Takeover:
    """Closes the connections of this node whose sessions go on elsewhere, and lets other nodes close theirs.

    `notify(node, message)` tells another node something and returns whether it is there. `drop(client)` closes a
    client's connection and forgets it here.
    """

    drop: Callable[[Client], None]

    def __init__(
        self, store: SessionStore, rooms: Positions, clients: Clients, notify: Callable[[str, str], bool]
    ) -> None:
        self._store, self._rooms, self._clients, self._notify = store, rooms, clients, notify

    def on_node_message(self, message: bytes) -> None:
        """Take another node's word that a session goes on there."""
        verb, namespace, sid, generation = [*message.decode(errors="replace").split("\n"), "", "", "", ""][:4]
        session = self._rooms.session(sid, namespace)
        if verb == "evict" and session is not None and generation.isdecimal() and session.generation < int(generation):
            gevent.spawn(self._drop_later, session)

    def _evict(self, claimed: Claimed) -> None:
        session = claimed.session
        here = self._rooms.session(session.sid, session.namespace)
        if here is not None:
            self._drop_session(here)
            return
        word = f"evict\n{session.namespace}\n{session.sid}\n{session.generation}"
        if claimed.open and self._notify(claimed.node, word):
            deadline = time.monotonic() + EVICT_SECONDS
            while not self._store.acknowledged(session) and time.monotonic() < deadline:
                gevent.sleep(0.02)

    def _drop_later(self, session: Session) -> None:
        with suppress(Unavailable):
            if self._rooms.session(session.sid, session.namespace) is session:
                self._drop_session(session)

    def _drop_session(self, session: Session) -> None:
        client = self._client_of(session)
        if client is None:
            self._rooms.forget(session.sid, session.namespace)
            return
        self.drop(client)
        deadline = time.monotonic() + BUSY_SECONDS
        while client.busy:
            if time.monotonic() > deadline:
                raise Unavailable("A command of the old connection is at work still")
            gevent.sleep(0.01)

    def _client_of(self, session: Session) -> Client | None:
        client = self._clients.get(session.sid, session.namespace)
        return client if client is not None and client.recovery is session else None
