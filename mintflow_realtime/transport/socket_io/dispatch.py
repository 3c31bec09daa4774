"""Which greenlet runs a client's event: in order for typed namespaces, each in one of its own for stock ones."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from socketio import packet

from mintflow_realtime.metrics.series import FAILURES, STOCK_EVENTS
from mintflow_realtime.transport.engine_io.message import ASKED_FOR
from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.socket_io.inbox import Inbox
from mintflow_realtime.transport.socket_io.long_messages import LetGo, LongMessages
from mintflow_realtime.transport.socket_io.packet import Reply, encode

# A stock namespace runs each event in a greenlet of its own; beyond this many, reading from that client pauses.
MAX_CONCURRENT = 32
RESERVED = frozenset({"connect", "disconnect", "connect_error", "__disconnect_final"})

_log = logging.getLogger("mintflow.sockets")


class Dispatch(LongMessages):
    """Hands events and acks to those whom they are for; the library's `Server` stands behind it."""

    eio: EngineServer
    manager: Any
    environ: dict[str, Any]
    handlers: dict[str, Any]
    namespace_handlers: dict[str, Any]
    packet_class: Any
    not_handled: Any

    if TYPE_CHECKING:

        def _trigger_event(self, event: str, namespace: str, *args: Any) -> Any: ...

    def __init__(self, *args: Any, **options: Any) -> None:
        # Namespaces whose handlers answer in order.
        self.typed: set[str] = set()
        # Each holds a connection only while there is something in it.
        self._inboxes: dict[str, Inbox] = {}
        self._running: dict[str, int] = {}
        super().__init__(*args, **options)

    def forget(self, eio_sid: str) -> None:
        """Let go of what a connection that is gone had asked for."""
        inbox = self._inboxes.pop(eio_sid, None)
        if inbox is not None:
            inbox.close()
        self._running.pop(eio_sid, None)
        self._abandon(eio_sid)

    def _take_event(
        self,
        session: Session,
        namespace: str,
        id: int | None,
        data: list[Any],
        let_go: LetGo | None,
        binary: bool,
    ) -> None:
        eio_sid = session.sid
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None or not self.manager.is_connected(sid, namespace):
            _log.info("ignored an event of a client that is not in %s", namespace)
            self._let_go_soon(let_go)
            return
        name: str = data[0]
        own = self.handlers.get(namespace)
        if namespace in self.typed and (own is None or name not in own):
            handler = self.namespace_handlers[namespace]
            reply = self._reply(session, namespace, id)
            inbox = self._inboxes.get(eio_sid)
            if inbox is None:
                inbox = self._inboxes[eio_sid] = Inbox(
                    self.eio.greenlets, session, partial(self._inboxes.pop, eio_sid, None)
                )
            more = {"binary": True} if binary else {}
            inbox.put(partial(handler.respond, sid, name, data[1:], reply, **more), let_go)
        elif name in RESERVED:
            # The library would run its own handlers with the client's arguments.
            reply = self._reply(session, namespace, id)
            error = {"code": "unknown_event", "message": f"{name} is not a command", "retryable": False}
            reply.ack({"ok": False, "error": error}) if reply.acked else reply.emit("error", {"event": name, **error})
            self._let_go_soon(let_go)
        else:
            running = self._running[eio_sid] = self._running.get(eio_sid, 0) + 1
            if running == MAX_CONCURRENT:
                session.pause()
            self.eio.greenlets.run(partial(self._run_stock, session, sid, namespace, id, data, let_go))

    def _run_stock(
        self, session: Session, sid: str, namespace: str, id: int | None, data: list[Any], let_go: LetGo | None
    ) -> None:
        STOCK_EVENTS.add(namespace)
        try:
            handler = self.namespace_handlers.get(namespace)
            if handler is not None and not self.handlers:
                # What the library's own look through its tables comes to, where all handlers are methods.
                answer = handler.trigger_event(data[0], sid, *data[1:])
            else:
                answer = self._trigger_event(data[0], namespace, sid, *data[1:])
            if id is not None and answer != self.not_handled:
                values = [] if answer is None else list(answer) if isinstance(answer, tuple) else [answer]
                session.post(encode(packet.ACK, namespace, id, values, self.packet_class.json.dumps, ASKED_FOR))
        except Exception:
            FAILURES.add("stock_event")
            _log.exception("the handler of %s in %s failed", data[0], namespace)
        finally:
            left = self._running.get(session.sid, 0) - 1
            if left > 0:
                self._running[session.sid] = left
            else:
                self._running.pop(session.sid, None)
            if left == MAX_CONCURRENT - 1:
                session.resume()
            # When this one holds it no longer.
            self._let_go_soon(let_go)

    def _take_ack(self, eio_sid: str, namespace: str, id: int | None, data: list[Any]) -> None:
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None:
            # In a greenlet: a callback may block, and the reading must not.
            self.eio.greenlets.run(partial(self.manager.trigger_callback, sid, id, data))

    def _reply(self, session: Session, namespace: str, id: int | None) -> Reply:
        return Reply(session.post, namespace, id, self.packet_class.json.dumps)
