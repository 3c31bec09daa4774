"""The library's Socket.IO `Server`, made strict: who connects is admitted first, and every packet has an outcome."""

import logging
from functools import partial
from typing import Any

import socketio
from engineio import packet as engine
from gevent.lock import BoundedSemaphore
from socketio import packet

from transport.admission import Gate, NotNow, Refusal
from transport.engine import EngineServer
from transport.inbox import Inbox
from transport.socket_packet import Reply, StrictPacket

# A stock namespace runs each event in a greenlet of its own; beyond this many, reading from that client pauses.
MAX_CONCURRENT = 32
RESERVED = frozenset({"connect", "disconnect", "connect_error", "__disconnect_final"})

_log = logging.getLogger("mintflow.sockets")


class SocketServer(socketio.Server):  # type: ignore[misc]
    """Serves typed namespaces (those with a `respond` method) in order, and stock ones as the library does.

    A typed namespace's `respond(sid, event, args, reply)` never raises; its `busy(reply, event)` answers what the
    full inbox didn't take.
    """

    gate: Gate | None = None

    def __init__(self, **options: Any) -> None:
        self._inboxes: dict[str, Inbox] = {}
        self._running: dict[str, BoundedSemaphore] = {}
        self._open_namespaces: set[str] = set()
        # Connections whose transport ended, while their disconnect handlers run.
        self._ending: set[str] = set()
        super().__init__(
            async_mode="gevent", async_handlers=True, always_connect=False, serializer=StrictPacket, **options
        )

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def register(self, handler: socketio.Namespace, *, authenticate: bool = True) -> None:
        """Serve a namespace, in place of an earlier one of the same name; without `authenticate`, admit everyone."""
        self.register_namespace(handler)
        if authenticate:
            self._open_namespaces.discard(handler.namespace)
        else:
            self._open_namespaces.add(handler.namespace)

    def close_transport(self, eio_sid: str, reason: str) -> None:
        """Close a client's connection with all its namespaces; stock clients then reconnect by themselves."""
        self.eio.close_transport(eio_sid, reason)

    # Sending what was encoded elsewhere

    def message(self, text: str, policy: str, key: str) -> Any:
        """Return a Socket.IO packet's text made ready for `post` to any number of connections.

        `policy` (close, drop_oldest, latest_only, merge) and `key` say what a client's full outbox means for it.
        """
        return engine.Packet(engine.MESSAGE, text)

    def post(self, eio_sid: str, message: Any) -> None:
        """Send a message to one connection; one that is gone gets nothing."""
        self._send_eio_packet(eio_sid, message)

    def backlog(self, eio_sid: str) -> float:
        """Return the share of a connection's outbox that is in use, from 0; 0 for a connection that is gone."""
        return 0.0

    # Connecting

    def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        namespace = namespace or "/"
        if namespace not in self.namespace_handlers and namespace not in self.handlers:
            self._refuse(eio_sid, namespace, {"message": "Invalid namespace"})
            return
        sid = self.manager.pre_connect(eio_sid, namespace)
        if sid is None:
            raise ValueError("CONNECT to a namespace that this connection is in already")
        gate = None if namespace in self._open_namespaces else self.gate
        environ = self.environ[eio_sid]
        admitted = accepted = False
        try:
            if gate is not None:
                sid = gate.admit(eio_sid, sid, namespace, environ, data) or sid
                admitted = True
            refusal = self._call_connect_handler(environ, sid, namespace, data)
            if refusal is not None:
                self._refuse(eio_sid, namespace, refusal)
            elif eio_sid in self.environ:
                # From now on it may take as long as it has to be sent much that it missed.
                self.eio.joined(eio_sid)
                answer = {"sid": sid} if gate is None else {"sid": sid, **gate.prepare(sid, namespace)}
                if eio_sid in self.environ:
                    self._send_packet(eio_sid, StrictPacket(packet.CONNECT, answer, namespace))
                    self.manager.connect(sid, namespace)
                    accepted = True
        except Refusal as error:
            self._refuse(eio_sid, namespace, error.answer)
        except NotNow as error:
            _log.info("not now: %s", error)
            self.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)
        except Exception as error:
            if getattr(error, "retryable", False):
                # Such as Redis not answering what a connect handler published: never a refusal.
                self.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)
            else:
                _log.exception("connect to %s failed", namespace)
                self._refuse(eio_sid, namespace, {"message": "Internal error", "data": {"code": "internal"}})
        finally:
            if not accepted:
                self._forget(eio_sid, sid, namespace)
                if admitted and gate is not None:
                    gate.left(sid, namespace, eio_sid)
        if accepted and gate is not None:
            self._let_in(gate, eio_sid, sid, namespace)

    def _let_in(self, gate: Gate, eio_sid: str, sid: str, namespace: str) -> None:
        try:
            gate.joined(sid, namespace)
        except Exception:
            # The client was told that it is connected, so this is no refusal any more.
            _log.exception("a client of %s could not be let into its rooms", namespace)
            self.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)

    def _call_connect_handler(self, environ: dict[str, Any], sid: str, namespace: str, data: Any) -> Any:
        """Return None where the namespace accepts, else the payload of CONNECT_ERROR."""
        try:
            try:
                success = self._trigger_event("connect", namespace, sid, environ, data or None)
            except TypeError:
                if data:
                    raise
                success = self._trigger_event("connect", namespace, sid, environ)
        except socketio.exceptions.ConnectionRefusedError as error:
            return error.error_args
        except ConnectionRefusedError:
            return {"message": "Connection refused by server"}
        return socketio.exceptions.ConnectionRefusedError().error_args if success is False else None

    def _refuse(self, eio_sid: str, namespace: str, answer: Any) -> None:
        self._send_packet(eio_sid, StrictPacket(packet.CONNECT_ERROR, answer, namespace))

    # Leaving

    def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None:
        namespace = namespace or "/"
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is not None and self.manager.is_connected(sid, namespace):
            self._leave(eio_sid, sid, namespace, reason or self.reason.CLIENT_DISCONNECT)

    def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Disconnect a client from a namespace, as the library does; the transport is closed with its last one."""
        namespace = namespace or "/"
        local = self.manager.is_connected(sid, namespace)
        if local if ignore_queue else self.manager.can_disconnect(sid, namespace):
            eio_sid = self.manager.eio_sid_from_sid(sid, namespace)
            self._send_packet(eio_sid, StrictPacket(packet.DISCONNECT, namespace=namespace))
            self._leave(eio_sid, sid, namespace, self.reason.SERVER_DISCONNECT)
            if not any(self.manager.sid_from_eio_sid(eio_sid, other) for other in self.manager.get_namespaces()):
                self.close_transport(eio_sid, self.reason.SERVER_DISCONNECT)

    def _leave(self, eio_sid: str, sid: str, namespace: str, reason: str) -> None:
        self.manager.pre_disconnect(sid, namespace=namespace)
        self._binary_packet.pop(eio_sid, None)
        try:
            self._trigger_event("disconnect", namespace, sid, reason)
        except Exception:
            _log.exception("the disconnect handler of %s failed", namespace)
        finally:
            self._forget(eio_sid, sid, namespace)
            if self.gate is not None and namespace not in self._open_namespaces:
                self.gate.left(sid, namespace, eio_sid, for_good=eio_sid not in self._ending)
            if not any(self.manager.sid_from_eio_sid(eio_sid, other) for other in self.manager.get_namespaces()):
                self.eio.left(eio_sid)

    def _forget(self, eio_sid: str, sid: str, namespace: str) -> None:
        # Not where the sid goes on with another connection.
        if self.manager.eio_sid_from_sid(sid, namespace) == eio_sid:
            self.manager.disconnect(sid, namespace, ignore_queue=True)

    def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        inbox = self._inboxes.pop(eio_sid, None)
        if inbox is not None:
            inbox.close()
        self._running.pop(eio_sid, None)
        self._binary_packet.pop(eio_sid, None)
        self._ending.add(eio_sid)
        try:
            super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._ending.discard(eio_sid)

    # Packets

    def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        """Take a message; one that breaks the protocol closes the connection, and nothing else notices."""
        if eio_sid not in self.environ:
            return
        try:
            if eio_sid in self._binary_packet and isinstance(data, str):
                raise ValueError("A text came where an attachment was due")
            super()._handle_eio_message(eio_sid, data)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError) as error:
            _log.info("closing a connection that breaks the protocol: %s", error)
            self._binary_packet.pop(eio_sid, None)
            self.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)

    def _handle_event(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        namespace = namespace or "/"
        if not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("An event is a list that begins with its name")
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None or not self.manager.is_connected(sid, namespace):
            _log.info("ignored an event of a client that is not in %s", namespace)
            return
        handler = self.namespace_handlers.get(namespace)
        reply = Reply(partial(self._send_packet, eio_sid), namespace, id)
        if hasattr(handler, "respond") and data[0] not in self.handlers.get(namespace, {}):
            inbox = self._inboxes.setdefault(eio_sid, Inbox())
            if not inbox.put(partial(handler.respond, sid, data[0], data[1:], reply)):
                handler.busy(reply, data[0])
        elif data[0] in RESERVED:
            # The library would run its own handlers with the client's arguments.
            error = {"code": "unknown_event", "message": f"{data[0]} is not a command", "retryable": False}
            reply.ack({"ok": False, "error": error}) if reply.acked else reply.emit(
                "error", {"event": data[0], **error}
            )
        else:
            self._run_stock(eio_sid, sid, namespace, id, data)

    def _handle_ack(self, eio_sid: str, namespace: str | None, id: int | None, data: Any) -> None:
        if not isinstance(data, list):
            raise ValueError("An ack carries a list")
        try:
            super()._handle_ack(eio_sid, namespace, id, data)
        except Exception:
            _log.exception("an ack's callback failed")

    def _run_stock(self, eio_sid: str, sid: str, namespace: str, id: int | None, data: list[Any]) -> None:
        running = self._running.setdefault(eio_sid, BoundedSemaphore(MAX_CONCURRENT))
        running.acquire()

        def run() -> None:
            try:
                self._handle_event_internal(self, sid, eio_sid, data, namespace, id)
            except Exception:
                _log.exception("the handler of %s in %s failed", data[0], namespace)
            finally:
                running.release()

        self.start_background_task(run)
