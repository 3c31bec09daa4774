"""What a node remembers of its clients' lives, and what it tells of them where somebody asks why."""

import time
from collections.abc import Callable, Iterable

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.life_reader import MAX_CLIENTS, LifeReader
from mintflow_realtime.auth.policy import READ_SCOPE
from mintflow_realtime.fanout.deliver.positions import Positions
from mintflow_realtime.fanout.heard import HeardTimes
from mintflow_realtime.fanout.lives import CLOSED, CONNECTED, DROPPED, PAUSED, REFUSED, Lives
from mintflow_realtime.protocol.envelope import ORIGIN, Offset, parse_offset
from mintflow_realtime.protocol.turns import turns
from mintflow_realtime.protocol.why import AskWhy, NodeTells
from mintflow_realtime.stores.nodes.roster import Roster

# Rooms of a client that a line names.
MAX_ROOMS = 1000

Marks = tuple[dict[str, str], list[tuple[str, str, str]]]


class ClientLives:
    """Writes lines about clients, and reads them.

    `since(client)` says since when one is connected, in milliseconds since 1970; `unsent(connection)` what waits for
    it, by the key of its messages, and what was dropped; `channel(tenant, namespace)` names a log.
    """

    def __init__(
        self,
        lives: Lives,
        heard: HeardTimes,
        clients: Clients,
        rooms: Positions,
        since: Callable[[Client], float],
        unsent: Callable[[str], Marks],
        channel: Callable[[str, str], str],
        roster: Roster,
    ) -> None:
        self._lives, self._heard, self._clients, self._rooms = lives, heard, clients, rooms
        self._since, self._unsent, self._channel, self._roster = since, unsent, channel, roster
        # Of connections that end while something waits for them, until their clients have left.
        self._ended: dict[str, dict[str, str]] = {}

    def connected(self, client: Client) -> None:
        """Write down that a client was told that it is connected."""
        principal, session = client.principal, client.recovery
        came_with = ""
        if client.recovered and session is not None:
            came_with = client.shown if client.shown not in ("", "-") else session.start
        position = str(self._rooms.position(principal.tenant, client.namespace))
        what = (client.sid, client.namespace, principal.tenant, principal.user_id, position, came_with, client.resync)
        self._lives.note(CONNECTED, *what)
        self._enlist(client, time.time() * 1000, came=True)

    def enlist(self) -> None:
        """Note anew who is connected since when, before what was noted of it is forgotten. Gives others turns."""
        with turns.work() as pause:
            for siblings in self._clients.connections():
                pause()
                for client in siblings:
                    self._enlist(client, self._since(client), came=True)

    def refused(self, namespace: str, tenant: str, user_id: str, code: str) -> None:
        """Write down that a user was not let in."""
        self._lives.note(REFUSED, namespace, tenant, user_id, code)

    def closed(self, client: Client, reason: str) -> None:
        """Write down that a client is gone from here; nothing has forgotten it yet."""
        tenant, namespace = client.principal.tenant, client.namespace
        rooms = [room for room in self._rooms.get_rooms(client.sid, namespace) if room != client.sid][:MAX_ROOMS]
        since = client.recovery.rooms if client.recovery is not None else {}
        kept = {room: since.get(room, "") for room in rooms if room[-1:] != ":"}
        waiting = self._ended.get(client.connection) or self._unsent(client.connection)[0]
        position = str(self._rooms.position(tenant, namespace))
        unsent, told = _first_in(namespace, waiting), self._told(client)
        self._lives.note(CLOSED, client.sid, namespace, position, reason, kept, unsent, *told)
        self._enlist(client, time.time() * 1000, came=False)

    def dropped(self, connection: str, gaps: Iterable[tuple[str, str, str]]) -> None:
        """Write down what a connection's full outbox has cost its clients."""
        for key, first, last in gaps:
            namespace = key.partition(" ")[0]
            sid = self._rooms.sid_from_eio_sid(connection, namespace)
            if sid is not None:
                self._lives.note(DROPPED, sid, namespace, first, last)

    def paused(self, connection: str, seconds: float) -> None:
        """Write down that something waited for a connection so long, up to now."""
        began = round((time.time() - seconds) * 1000)
        for client in self._clients.of_connection(connection):
            self._lives.note(PAUSED, client.sid, client.namespace, began)

    def ending(self, connection: str, waiting: dict[str, str]) -> None:
        """Remember what waited for a connection that ends, until its clients have left."""
        if waiting:
            self._ended[connection] = waiting

    def ended(self, connection: str) -> None:
        """Forget a connection."""
        self._ended.pop(connection, None)

    def tell(self, asked: AskWhy) -> NodeTells:
        """Return what is known of a user's clients. Gives others turns."""
        told = NodeTells(complete_from=self._lives.complete_from)
        offset = parse_offset(asked.offset)
        if offset is not None:
            told.heard_at = self._heard.when(self._channel(asked.tenant, asked.namespace), offset)
        reader = LifeReader(asked, told)
        here = self._here(asked, told)
        with turns.work() as pause:
            for block in self._lives.blocks():
                pause()
                reader.read(block)
        for client in here:
            self._now(client, reader)
        told.stays = sorted(reader.stays, key=lambda stay: stay.connected_at)[-MAX_CLIENTS:]
        return told

    def _here(self, asked: AskWhy, told: NodeTells) -> list[Client]:
        needs, found = READ_SCOPE.get(asked.namespace), []
        for client in self._clients.of_tenant(asked.tenant):
            if client.principal.user_id != asked.user_id:
                continue
            if client.namespace == asked.namespace:
                found.append(client)
            elif needs is not None and needs not in client.principal.permissions:
                told.lacks = True
        return found

    def _now(self, client: Client, reader: LifeReader) -> None:
        """Add what the node's tables know of a client that is here."""
        if self._clients.get(client.sid, client.namespace) is not client:
            return
        stay = reader.open_stay(client.sid)
        if stay is None:
            stay = reader.begin(client.sid, self._since(client))
        since = client.recovery.rooms if client.recovery is not None else {}
        for room in self._rooms.get_rooms(client.sid, client.namespace):
            reader.is_in(stay, room, since.get(room, ""))
        waiting, gaps = self._unsent(client.connection)
        stay.unsent, (stay.told, stay.told_at) = _first_in(client.namespace, waiting), self._told(client)
        stay.dropped += [(first, last) for key, first, last in gaps if key.partition(" ")[0] == client.namespace]

    def _enlist(self, client: Client, at: float, *, came: bool) -> None:
        who = client.principal
        self._roster.note(who.tenant, client.namespace, who.user_id, client.sid, at, came=came)

    def _told(self, client: Client) -> tuple[str, float]:
        """Return the last offset that a client was told, and when; "" and 0 where it was none of this epoch."""
        session = client.recovery
        position = self._rooms.position(client.principal.tenant, client.namespace)
        if session is None or not 0 < session.sent <= position.number:
            return "", 0
        ago = time.monotonic() - session.sent_at
        return str(Offset(position.epoch, session.sent)), round((time.time() - ago) * 1000)


def _first_in(namespace: str, waiting: dict[str, str]) -> str:
    marks = [mark for key, mark in waiting.items() if key.partition(" ")[0] == namespace]
    return min(marks, key=lambda mark: (parse_offset(mark) or ORIGIN).number, default="")
