"""What this node answers where others ask who is connected to it, one question after the other."""

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import gevent
import msgspec

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.protocol.nodes import (
    AskConnections,
    AskPage,
    AskToClose,
    Closed,
    ConnectionInfo,
    PresentUser,
    Some,
)
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.services.nodes.connections import CLOSE, CONNECTIONS, PRESENCE, place_of
from mintflow_realtime.services.nodes.questions import to_answer

# Questions that wait; who asks more often than they are answered is not answered.
MAX_WAITING = 64
# One node's answer: a page of clients with a thousand rooms each ends earlier, and says that there is more.
MAX_ANSWER_BYTES = 512 * 1024

_rare = RareLog(logging.getLogger("mintflow.nodes"))


class ConnectionState(NamedTuple):
    """What the transport knows of a connection. `since` in milliseconds since 1970, `behind` in messages."""

    transport: str
    address: str | None
    since: int
    outbox_bytes: int
    behind: int


class Rooms(Protocol):
    """What is asked of this node's rooms."""

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """Return a client's rooms, its own among them."""
        ...


class Inspection:
    """Answers questions about this node's clients.

    `state_of` knows a client's connection; `disconnect(sid, namespace)` sends one away for good; `answer(question,
    text)` puts an answer where it is looked for.
    """

    def __init__(
        self,
        node: str,
        clients: Clients,
        rooms: Rooms,
        state_of: Callable[[Client], ConnectionState | None],
        disconnect: Callable[[str, str], Any],
        answer: Callable[[str, bytes], None],
    ) -> None:
        self._node, self._clients, self._rooms = node, clients, rooms
        self._state_of, self._disconnect, self._answer = state_of, disconnect, answer
        self._waiting: deque[tuple[str, str, str]] = deque()
        self._worker: gevent.Greenlet[..., None] | None = None
        self.answers: dict[str, tuple[type[Any], Callable[[Any], msgspec.Struct]]] = {
            CONNECTIONS: (AskConnections, self.connections),
            PRESENCE: (AskPage, self.presence),
            CLOSE: (AskToClose, self.close),
        }

    def on_question(self, message: bytes) -> None:
        """Take a question that came on this node's channel. Never blocks."""
        _, question, verb, text = [*message.decode(errors="replace").split("\n", 3), "", "", ""][:4]
        if not question.isalnum() or len(self._waiting) >= MAX_WAITING:
            return
        self._waiting.append((question, verb, text))
        if self._worker is None or self._worker.dead:
            self._worker = gevent.spawn(self._work)

    def _work(self) -> None:
        while self._waiting:
            question, verb, text = self._waiting.popleft()
            try:
                self._answer(question, to_answer(self._node, self._answered(verb, text)))
            except Exception as error:
                _rare.warning("a question of another node was not answered", error=error)

    def _answered(self, verb: str, text: str) -> msgspec.Struct | None:
        kind, answered = self.answers.get(verb, (None, None))
        if kind is None or answered is None:
            return None
        try:
            return answered(msgspec.json.decode(text, type=kind))
        except Exception as error:
            _rare.warning(f"the question {verb} could not be answered", error=error)
            return None

    def connections(self, asked: AskConnections) -> Some[ConnectionInfo]:
        """Return connections after `asked.after`, in the order of their sids."""
        found = self._found(asked.tenant, asked.user_id, asked.room)
        groups = [(group[0].sid, group) for group in found if group[0].sid > asked.after]
        some = heapq.nsmallest(asked.limit, groups, key=_first)
        rows: list[ConnectionInfo] = []
        size = 0
        for _, group in some:
            row = self._shown(group)
            if row is None:
                continue
            size += len(msgspec.json.encode(row))
            if rows and size > MAX_ANSWER_BYTES:
                return Some(rows, True)
            rows.append(row)
        return Some(rows, bool(rows) and len(groups) > len(some))

    def presence(self, asked: AskPage) -> Some[PresentUser]:
        """Return users after `asked.after`, in the order of tenant and id."""
        by_user: dict[str, list[Client]] = {}
        for group in self._found(asked.tenant, None, None):
            place = place_of(group[0].principal.tenant, group[0].principal.user_id)
            if place > asked.after:
                by_user.setdefault(place, []).append(group[0])
        some = heapq.nsmallest(asked.limit, by_user.items(), key=_first)
        users = [self._user(clients) for _, clients in some]
        return Some(users, len(by_user) > len(some))

    def close(self, asked: AskToClose) -> Closed:
        """Disconnect a sid's connection, or a user's, as far as `asked` allows; soon: handlers may take a while."""
        found = list(self._found(asked.tenant, asked.user_id, None))
        if asked.sid is not None:
            found = [group for group in found if any(client.sid == asked.sid for client in group)]
        if found:
            gevent.spawn(self._disconnect_all, [client for group in found for client in group])
        return Closed(len(found))

    def _disconnect_all(self, clients: list[Client]) -> None:
        for client in clients:
            if self._clients.get(client.sid, client.namespace) is client:
                self._disconnect(client.sid, client.namespace)

    def _found(self, tenant: str | None, user_id: str | None, room: str | None) -> Iterator[list[Client]]:
        """Yield each connection's clients: those of one user in one tenant, which is all of them as a rule."""
        with turns.work() as pause:
            for siblings in self._clients.connections():
                pause()
                for group in _by_principal(siblings):
                    principal = group[0].principal
                    if tenant not in (None, principal.tenant) or user_id not in (None, principal.user_id):
                        continue
                    if room is None or any(room in self._rooms_of(client) for client in group):
                        yield group

    def _shown(self, group: list[Client]) -> ConnectionInfo | None:
        first = group[0]
        state = self._state_of(first)
        if state is None:
            return None
        return ConnectionInfo(
            sid=first.sid,
            node_id=self._node,
            user_id=first.principal.user_id,
            tenant=first.principal.tenant,
            transport=state.transport,
            address=state.address,
            since=iso(state.since),
            outbox_bytes=state.outbox_bytes,
            behind=state.behind,
            namespaces={client.namespace: self._rooms_of(client) for client in group},
        )

    def _user(self, clients: list[Client]) -> PresentUser:
        since = [state.since for state in map(self._state_of, clients) if state is not None]
        principal = clients[0].principal
        return PresentUser(
            user_id=principal.user_id,
            tenant=principal.tenant,
            connections=len(clients),
            since=iso(min(since, default=0)),
        )

    def _rooms_of(self, client: Client) -> list[str]:
        return sorted(room for room in self._rooms.get_rooms(client.sid, client.namespace) if room != client.sid)


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def _by_principal(siblings: list[Client]) -> list[list[Client]]:
    """Return a connection's clients by who they act as: with each CONNECT may come another token."""
    groups: dict[tuple[str, str], list[Client]] = {}
    for client in siblings:
        groups.setdefault((client.principal.tenant, client.principal.user_id), []).append(client)
    return list(groups.values())
