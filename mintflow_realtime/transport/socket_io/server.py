"""The library's Socket.IO `Server`, made strict: who connects is admitted first, and every packet has an outcome."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import socketio
from socketio import packet

from mintflow_realtime.transport.engine_io.message import Message, Slow
from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.loop.timer_wheel import Timer
from mintflow_realtime.transport.socket_io.connecting import Connecting
from mintflow_realtime.transport.socket_io.packet import encode

# How long a connection whose session goes on elsewhere has to answer.
HEARD_SECONDS = 1.0


class SocketServer(Connecting, socketio.Server):  # type: ignore[misc]
    """Serves typed namespaces (those with a `respond` method) in order, and stock ones as the library does.

    A typed namespace's `respond(sid, event, args, reply)` never raises, and gets `binary=True` for an event that came
    with attachments; its `busy(reply, event)` answers what the
    full inbox didn't take.
    """

    eio: EngineServer

    def __init__(self, **options: Any) -> None:
        self._library_packet: Any = None
        self._library_message = Message("")
        super().__init__(async_mode="gevent", async_handlers=True, always_connect=False, **options)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def register(self, handler: socketio.Namespace, *, authenticate: bool = True) -> None:
        """Serve a namespace, in place of an earlier one of the same name; without `authenticate`, admit everyone."""
        self.register_namespace(handler)
        if hasattr(handler, "respond"):
            self.typed.add(handler.namespace)
        else:
            self.typed.discard(handler.namespace)
        if authenticate:
            self._open_namespaces.discard(handler.namespace)
        else:
            self._open_namespaces.add(handler.namespace)

    def close_transport(self, eio_sid: str, reason: str) -> None:
        """Close a client's connection with all its namespaces; stock clients then reconnect by themselves."""
        self.eio.close_transport(eio_sid, reason)

    def close_when_heard(self, eio_sid: str, reason: str, heard: Callable[[], None]) -> None:
        """Close a client's connection when it has answered, and call `heard` before that; or else within a second."""
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            session.confirm(partial(self._heard, session, reason, heard))
            self.eio.timers.set(Timer(partial(session.close, reason)), HEARD_SECONDS)

    def _heard(self, session: Session, reason: str, heard: Callable[[], None]) -> None:
        if not session.closing:
            heard()
            session.close(reason)

    # Sending what was encoded elsewhere

    def message(self, text: str, policy: str, key: str, mark: str = "") -> Message:
        """Return a Socket.IO packet's text made ready for `post` to any number of connections.

        `policy` (close, drop_oldest, latest_only, merge) and `key` say what a client's full outbox means for it,
        `mark` what `unsent` and the engine's `note_gaps` call it.
        """
        return Message("4" + text, slow=Slow(policy, key), mark=mark)

    def event_message(self, namespace: str, arguments: list[Any]) -> Message:
        """Return an event made ready for `post`: its name and what follows it; bytes become attachments."""
        return encode(packet.EVENT, namespace, None, arguments, self.packet_class.json.dumps)

    def post(self, eio_sid: str, message: Message) -> None:
        """Send a message to one connection; one that is gone gets nothing."""
        self.eio.post(eio_sid, message)

    def post_to_all(self, eio_sids: Collection[str], message: Message) -> None:
        """Send a message to many connections."""
        self.eio.broadcast(eio_sids, message)

    @property
    def cork(self) -> AbstractContextManager[None]:
        """What lets messages wait for each other: each connection is then sent all of its own in one piece.

        Nobody may switch to another greenlet meanwhile.
        """
        return self.eio.cork

    def backlog(self, eio_sid: str) -> float:
        """Return the share of a connection's outbox that is in use, from 0; 0 for a connection that is gone."""
        session = self.eio.sockets.get(eio_sid)
        return 0.0 if session is None else session.backlog

    def waiting(self, eio_sid: str) -> tuple[int, int]:
        """Return how many bytes and messages wait for a connection."""
        session = self.eio.sockets.get(eio_sid)
        outbox = None if session is None else session.outbox
        return (0, 0) if outbox is None else (outbox.size, outbox.messages)

    def unsent(self, eio_sid: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
        """Return the mark of the first message that waits, by key, and runs that were dropped and not told of yet."""
        session = self.eio.sockets.get(eio_sid)
        outbox = None if session is None else session.outbox
        return ({}, []) if outbox is None else (outbox.first_marks(), list(outbox.gaps))

    def _send(self, eio_sid: str, kind: int, namespace: str, data: Any = None, id: int | None = None) -> None:
        self.post(eio_sid, encode(kind, namespace, id, data, self.packet_class.json.dumps))

    def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        text, *parts = encoded if isinstance(encoded, list) else [encoded]
        self.post(eio_sid, Message("4" + text, tuple(bytes(part) for part in parts)))

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        # The library's manager hands the same packet over once for each client of a broadcast.
        if eio_pkt is not self._library_packet:
            self._library_packet, data = eio_pkt, eio_pkt.data
            self._library_message = Message("4" + data) if isinstance(data, str) else Message("", (bytes(data),))
        self.post(eio_sid, self._library_message)
