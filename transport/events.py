"""What clients say on a connection: every packet has one outcome, and nothing that they send can block the reading."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from socketio import packet

from transport.engine import EngineServer
from transport.inbox import Inbox
from transport.session import Session
from transport.socket_packet import Incoming, Partial, Reply, decode, encode

# A stock namespace runs each event in a greenlet of its own; beyond this many, reading from that client pauses.
MAX_CONCURRENT = 32
RESERVED = frozenset({"connect", "disconnect", "connect_error", "__disconnect_final"})

_log = logging.getLogger("mintflow.sockets")


class Events:
    """The reading half of a Socket.IO server; the library's `Server` stands behind it."""

    eio: EngineServer
    manager: Any
    environ: dict[str, Any]
    handlers: dict[str, Any]
    namespace_handlers: dict[str, Any]
    packet_class: Any
    not_handled: Any

    if TYPE_CHECKING:

        def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any: ...

        def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None: ...

        def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None: ...

    def __init__(self, *args: Any, **options: Any) -> None:
        # Namespaces whose handlers answer in order.
        self.typed: set[str] = set()
        # Each holds a connection only while there is something in it.
        self._inboxes: dict[str, Inbox] = {}
        self._running: dict[str, int] = {}
        self._partial: dict[str, Partial] = {}
        super().__init__(*args, **options)

    def forget(self, eio_sid: str) -> None:
        """Let go of what a connection that is gone had asked for."""
        inbox = self._inboxes.pop(eio_sid, None)
        if inbox is not None:
            inbox.close()
        self._running.pop(eio_sid, None)
        self._partial.pop(eio_sid, None)

    def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Take a message; one that breaks the protocol closes the connection, and nothing else notices."""
        session = self.eio.sockets.get(eio_sid)
        if session is None or eio_sid not in self.environ:
            return
        try:
            incoming = self._read(eio_sid, data)
            if incoming is not None:
                self._act(session, incoming)
        except (ValueError, TypeError, RecursionError) as error:
            _log.info("closing a connection that breaks the protocol: %s", error)
            self.eio.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)

    def _read(self, eio_sid: str, data: str | bytes) -> Incoming | None:
        """Return the packet that is whole with this message, if one is. Raises ValueError."""
        partial_packet = self._partial.get(eio_sid) if self._partial else None
        if isinstance(data, str):
            if partial_packet is not None:
                raise ValueError("A text came where an attachment was due")
            incoming = decode(data, self.packet_class.json.loads)
            if incoming.kind < packet.BINARY_EVENT:
                return incoming
            if self.manager.sid_from_eio_sid(eio_sid, incoming.namespace) is None:
                raise ValueError("Attachments before CONNECT")
            partial_packet = Partial(incoming, self.eio.max_http_buffer_size)
            if incoming.attachments:
                self._partial[eio_sid] = partial_packet
                return None
            return partial_packet.whole()
        if partial_packet is None:
            raise ValueError("An attachment that belongs to nothing")
        if not partial_packet.add(data):
            return None
        del self._partial[eio_sid]
        return partial_packet.whole()

    def _act(self, session: Session, incoming: Incoming) -> None:
        kind, _, namespace, id, data = incoming
        if not session.introduced:
            if kind != packet.CONNECT:
                raise ValueError("A packet before CONNECT")
            session.introduced = True
        if kind in (packet.EVENT, packet.BINARY_EVENT):
            self._take_event(session, namespace, id, data)
        elif kind == packet.CONNECT:
            if self.manager.sid_from_eio_sid(session.sid, namespace) is not None:
                raise ValueError("CONNECT to a namespace that this connection is in already")
            self._settle(session, partial(self._handle_connect, session.sid, namespace, data))
        elif kind == packet.DISCONNECT:
            self._settle(session, partial(self._handle_disconnect, session.sid, namespace))
        else:
            self._take_ack(session.sid, namespace, id, data)

    def _settle(self, session: Session, work: Any) -> None:
        """Read nothing more of a connection until `work` is done: what comes next depends on it."""
        waiting = False

        def settle() -> None:
            try:
                work()
            except (ValueError, KeyError) as error:
                _log.info("closing a connection that breaks the protocol: %s", error)
                session.close(self.eio.reason.TRANSPORT_ERROR)
            finally:
                if waiting:
                    session.resume()

        if not self.eio.crew.finish(settle):
            session.pause()
            waiting = True

    def _take_event(self, session: Session, namespace: str, id: int | None, data: list[Any]) -> None:
        eio_sid = session.sid
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None or not self.manager.is_connected(sid, namespace):
            _log.info("ignored an event of a client that is not in %s", namespace)
            return
        name: str = data[0]
        own = self.handlers.get(namespace)
        if namespace in self.typed and (own is None or name not in own):
            handler = self.namespace_handlers[namespace]
            reply = self._reply(session, namespace, id)
            inbox = self._inboxes.get(eio_sid)
            if inbox is None:
                inbox = self._inboxes[eio_sid] = Inbox(self.eio.crew, partial(self._inboxes.pop, eio_sid, None))
            if not inbox.put(partial(handler.respond, sid, name, data[1:], reply)):
                handler.busy(reply, name)
        elif name in RESERVED:
            # The library would run its own handlers with the client's arguments.
            reply = self._reply(session, namespace, id)
            error = {"code": "unknown_event", "message": f"{name} is not a command", "retryable": False}
            reply.ack({"ok": False, "error": error}) if reply.acked else reply.emit("error", {"event": name, **error})
        else:
            running = self._running[eio_sid] = self._running.get(eio_sid, 0) + 1
            if running == MAX_CONCURRENT:
                session.pause()
            self.eio.crew.run(partial(self._run_stock, session, sid, namespace, id, data))

    def _run_stock(self, session: Session, sid: str, namespace: str, id: int | None, data: list[Any]) -> None:
        try:
            handler = self.namespace_handlers.get(namespace)
            if handler is not None and not self.handlers:
                # What the library's own look through its tables comes to, where all handlers are methods.
                answer = handler.trigger_event(data[0], sid, *data[1:])
            else:
                answer = self._trigger_event(data[0], namespace, sid, *data[1:])
            if id is not None and answer != self.not_handled:
                values = [] if answer is None else list(answer) if isinstance(answer, tuple) else [answer]
                session.post(encode(packet.ACK, namespace, id, values, self.packet_class.json.dumps))
        except Exception:
            _log.exception("the handler of %s in %s failed", data[0], namespace)
        finally:
            left = self._running.get(session.sid, 0) - 1
            if left > 0:
                self._running[session.sid] = left
            else:
                self._running.pop(session.sid, None)
            if left == MAX_CONCURRENT - 1:
                session.resume()

    def _take_ack(self, eio_sid: str, namespace: str, id: int | None, data: list[Any]) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            # In a greenlet: a callback may block, and the reading must not.
            self.eio.crew.run(partial(self.manager.trigger_callback, sid, id, data))

    def _reply(self, session: Session, namespace: str, id: int | None) -> Reply:
        return Reply(session.post, namespace, id, self.packet_class.json.dumps)
