"""The library's Socket.IO `Server`, made strict: who connects is admitted first, and every packet has an outcome."""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import socketio
from socketio import packet

from transport.admission import Gate, NotNow, Passing, Refusal
from transport.engine import EngineServer
from transport.events import Events
from transport.outgoing import Outgoing, Slow
from transport.socket_packet import encode

_log = logging.getLogger("mintflow.sockets")


class SocketServer(Events, socketio.Server):  # type: ignore[misc]
    """Serves typed namespaces (those with a `respond` method) in order, and stock ones as the library does.

    A typed namespace's `respond(sid, event, args, reply)` never raises; its `busy(reply, event)` answers what the
    full inbox didn't take.
    """

    gate: Gate | None = None
    eio: EngineServer

    def __init__(self, **options: Any) -> None:
        self._open_namespaces: set[str] = set()
        self._library_packet: Any = None
        self._library_message = Outgoing("")
        # Connections whose transport ended, while their disconnect handlers run.
        self._ending: set[str] = set()
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

    # Sending what was encoded elsewhere

    def message(self, text: str, policy: str, key: str) -> Outgoing:
        """Return a Socket.IO packet's text made ready for `post` to any number of connections.

        `policy` (close, drop_oldest, latest_only, merge) and `key` say what a client's full outbox means for it.
        """
        return Outgoing("4" + text, slow=Slow(policy, key))

    def event_message(self, namespace: str, arguments: list[Any]) -> Outgoing:
        """Return an event made ready for `post`: its name and what follows it; bytes become attachments."""
        return encode(packet.EVENT, namespace, None, arguments, self.packet_class.json.dumps)

    def post(self, eio_sid: str, message: Outgoing) -> None:
        """Send a message to one connection; one that is gone gets nothing."""
        self.eio.post(eio_sid, message)

    def post_to_all(self, eio_sids: Iterable[str], message: Outgoing) -> None:
        """Send a message to many connections."""
        self.eio.broadcast(eio_sids, message)

    @property
    def together(self) -> AbstractContextManager[None]:
        """What lets messages wait for each other: each connection is then sent all of its own in one piece.

        Nobody may switch to another greenlet meanwhile.
        """
        return self.eio.together

    def backlog(self, eio_sid: str) -> float:
        """Return the share of a connection's outbox that is in use, from 0; 0 for a connection that is gone."""
        session = self.eio.sockets.get(eio_sid)
        return 0.0 if session is None else session.backlog

    def _send(self, eio_sid: str, kind: int, namespace: str, data: Any = None, id: int | None = None) -> None:
        self.post(eio_sid, encode(kind, namespace, id, data, self.packet_class.json.dumps))

    def _send_packet(self, eio_sid: str, pkt: packet.Packet) -> None:
        encoded = pkt.encode()
        text, *parts = encoded if isinstance(encoded, list) else [encoded]
        self.post(eio_sid, Outgoing("4" + text, tuple(bytes(part) for part in parts)))

    def _send_eio_packet(self, eio_sid: str, eio_pkt: Any) -> None:
        # The library's manager hands the same packet over once for each client of a broadcast.
        if eio_pkt is not self._library_packet:
            self._library_packet, data = eio_pkt, eio_pkt.data
            self._library_message = Outgoing("4" + data) if isinstance(data, str) else Outgoing("", (bytes(data),))
        self.post(eio_sid, self._library_message)

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
                    self._send(eio_sid, packet.CONNECT, namespace, answer)
                    self.manager.connect(sid, namespace)
                    accepted = True
        except Refusal as error:
            self._refuse(eio_sid, namespace, error.answer)
        except Passing as passing:
            self._send(eio_sid, packet.CONNECT, namespace, passing.answer)
            session = self.eio.sockets.get(eio_sid)
            if session is not None:
                session.confirm(partial(self._let_pass, eio_sid, passing.then))
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

    def _let_pass(self, eio_sid: str, then: Callable[[], None]) -> None:
        then()
        self.close_transport(eio_sid, self.eio.reason.TRANSPORT_CLOSE)

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
        self._send(eio_sid, packet.CONNECT_ERROR, namespace, answer)

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
            self._send(eio_sid, packet.DISCONNECT, namespace)
            self._leave(eio_sid, sid, namespace, self.reason.SERVER_DISCONNECT)
            if not any(self.manager.sid_from_eio_sid(eio_sid, other) for other in self.manager.get_namespaces()):
                self.close_transport(eio_sid, self.reason.SERVER_DISCONNECT)

    def _leave(self, eio_sid: str, sid: str, namespace: str, reason: str) -> None:
        self.manager.pre_disconnect(sid, namespace=namespace)
        self._partial.pop(eio_sid, None)
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
        self.forget(eio_sid)
        self._ending.add(eio_sid)
        try:
            super()._handle_eio_disconnect(eio_sid, reason)
        finally:
            self._ending.discard(eio_sid)
