"""Who is connected: what this node tells others of its clients, asks the others of theirs, and writes of itself."""

import math
import time
from contextlib import suppress

from mintflow_realtime import __version__
from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.inspection import ConnectionState, Inspection
from mintflow_realtime.admission.lives import ClientLives
from mintflow_realtime.app.access_watch import AccessWatch
from mintflow_realtime.app.registration import Registration
from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.fanout.heard import HeardTimes
from mintflow_realtime.fanout.lives import Lives
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.fanout.subscribe.channels import Channels
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys, Runner
from mintflow_realtime.protocol.why import AskWhy
from mintflow_realtime.services.nodes.connections import Connections
from mintflow_realtime.services.nodes.questions import Questions
from mintflow_realtime.services.nodes.why import WHY, Reasons
from mintflow_realtime.stores.nodes.roster import Roster
from mintflow_realtime.stores.nodes.store import ASK, KNOWN_SECONDS, NodeStore
from mintflow_realtime.transport.socket_io.server import SocketServer

ROSTER_SECONDS = 0.5
# What is written of a client is known for an hour.
ENLIST_SECONDS = KNOWN_SECONDS / 2
_QUESTION = f"{ASK}\n".encode()


class ClusterView:
    """Puts it together for one node."""

    def __init__(
        self,
        redis: Runner,
        keys: Keys,
        node: str,
        clients: Clients,
        manager: Manager,
        channels: Channels,
        sockets: SocketServer,
        watch: AccessWatch,
        publisher: Publisher,
        heard: HeardTimes,
    ) -> None:
        store, self._node, self._roster = NodeStore(redis, keys), node, Roster()
        self._store, self._enlisted, self._has_roster = store, time.monotonic(), False
        questions = Questions(store)
        self._sockets, self._watch = sockets, watch
        self.connections, self.reasons = Connections(questions), Reasons(publisher, questions)
        self.inspection = Inspection(node, clients, manager, self._state_of, self._disconnect, store.answer)
        lives = manager.lives = Lives()
        self.lives = watch.lives = ClientLives(
            lives, heard, clients, manager, self._since, sockets.unsent, publisher.channel, self._roster
        )
        sockets.eio.note_gaps, sockets.eio.note_unsent = self.lives.dropped, self.lives.ending
        sockets.eio.note_pause = self.lives.paused
        self.inspection.answers[WHY] = (AskWhy, self.lives.tell)
        self.registration = Registration(
            store,
            node,
            __version__,
            lambda: len(sockets.eio.sockets),
            lambda: channels.received,
            lambda: sockets.eio.draining,
        )

    def takes(self, message: bytes) -> bool:
        """Take a message of another node's if it is a question, else return False. Never blocks."""
        asked = message.startswith(_QUESTION)
        if asked:
            self.inspection.on_question(message)
        return asked

    def write_roster(self) -> None:
        """Write down who came and went. Raises Unavailable."""
        if time.monotonic() - self._enlisted > ENLIST_SECONDS:
            self._enlisted = time.monotonic()
            self.lives.enlist()
        while lines := self._roster.take():
            try:
                is_whole = self._store.note_clients(self._node, lines) or not self._has_roster
            except Unavailable:
                self._roster.give_back(lines)
                # It may come back without what it had.
                self._enlisted = -math.inf
                raise
            self._has_roster = True
            if not is_whole:
                self._enlisted = -math.inf

    def end(self) -> None:
        """Write down that this node has ended, if Redis answers."""
        with suppress(Unavailable):
            self.write_roster()
            self.registration.end()

    def _state_of(self, client: Client) -> ConnectionState | None:
        here = self._watch.here(client.connection, client.namespace)
        if here is None or client.connection not in self._sockets.eio.sockets:
            return None
        seconds, address = here
        size, messages = self._sockets.waiting(client.connection)
        transport = self._sockets.eio.transport(client.connection)
        return ConnectionState(transport, address, round((time.time() - seconds) * 1000), size, messages)

    def _since(self, client: Client) -> float:
        here = self._watch.here(client.connection, client.namespace)
        return (time.time() - (here[0] if here is not None else 0)) * 1000

    def _disconnect(self, sid: str, namespace: str) -> None:
        self._sockets.disconnect(sid, namespace, ignore_queue=True)
