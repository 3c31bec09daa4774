"""How clients come and go: who connects is admitted first, and whoever leaves is forgotten once, by everybody."""

import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import socketio
from socketio import packet

from mintflow_realtime.transport.loop.timer_wheel import Timer
from mintflow_realtime.transport.socket_io.admission import AnswerThenClose, Gate, NotNow, Refusal, Watch
from mintflow_realtime.transport.socket_io.events import Events

# A client that can't be let in now is sent away within this time, each after another while.
LATER_SECONDS = 5.0
# So long handshakes are answered 503 after one could not be let in: the next one tries whether others can be.
BUSY_SECONDS = 1.0

_log = logging.getLogger("mintflow.sockets")


class Connecting(Events):
    """The half of a Socket.IO server that lets clients in and forgets them; the library's `Server` stands behind it."""

    gate: Gate | None = None
    watch: Watch | None = None
    reason: Any

    if TYPE_CHECKING:

        def close_transport(self, eio_sid: str, reason: str) -> None: ...

        def _send(self, eio_sid: str, kind: int, namespace: str, data: Any = None, id: int | None = None) -> None: ...

    def __init__(self, *args: Any, **options: Any) -> None:
        self._open_namespaces: set[str] = set()
        # Connections whose transport ended, while their disconnect handlers run.
        self._ending: set[str] = set()
        super().__init__(*args, **options)

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
            self._refuse(eio_sid, namespace, error.answer, error.who)
        except AnswerThenClose as passing:
            self._send(eio_sid, packet.CONNECT, namespace, passing.answer)
            session = self.eio.sockets.get(eio_sid)
            if session is not None:
                session.confirm(partial(self._let_pass, eio_sid, passing.then))
        except NotNow as error:
            _log.info("not now: %s", error)
            self._tell_refused(eio_sid, namespace, {"message": str(error), "data": {"code": "unavailable"}})
            self._close_later(eio_sid, error.busy)
        except Exception as error:
            if getattr(error, "retryable", False):
                # Such as Redis not answering what a connect handler published: never a refusal.
                self._close_later(eio_sid, True)
            else:
                _log.exception("connect to %s failed", namespace)
                self._refuse(eio_sid, namespace, {"message": "Internal error", "data": {"code": "internal"}})
        finally:
            if not accepted:
                self._forget(eio_sid, sid, namespace)
                if admitted and gate is not None:
                    gate.left(sid, namespace, eio_sid)
        if accepted and self.watch is not None:
            self.watch.connected(eio_sid, sid, namespace)
        if accepted and gate is not None:
            self._let_in(gate, eio_sid, sid, namespace)

    def _close_later(self, eio_sid: str, busy: bool) -> None:
        """Close a connection that can't be let in now; if nobody can, after a while, and refuse handshakes meanwhile.

        Stock clients come back at once where an open transport is closed; a handshake's 503 makes them back off.
        """
        if not busy:
            self.close_transport(eio_sid, self.eio.reason.TRANSPORT_ERROR)
            return
        self.eio.busy_until = time.monotonic() + BUSY_SECONDS
        seconds = random.uniform(LATER_SECONDS / 5, LATER_SECONDS)
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            self.eio.timers.set(Timer(partial(session.close, self.eio.reason.TRANSPORT_ERROR)), seconds)

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

    def _call_connect_handler(self, kept: Any, sid: str, namespace: str, data: Any) -> Any:
        """Return None where the namespace accepts, else the payload of CONNECT_ERROR."""
        if namespace in self.typed and namespace not in self.handlers:
            return self._call_with_environ(kept, sid, namespace, data)
        # Who was written for the library expects a dict; what is put into it stays with the connection.
        environ = kept.copy()
        size = len(environ)
        answer = self._call_with_environ(environ, sid, namespace, data)
        if len(environ) != size:
            for name in environ.keys() - kept.keys():
                kept[name] = environ[name]
        return answer

    def _call_with_environ(self, environ: Any, sid: str, namespace: str, data: Any) -> Any:
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

    def _refuse(self, eio_sid: str, namespace: str, answer: Any, who: Any = (None, None)) -> None:
        self._tell_refused(eio_sid, namespace, answer, who)
        self._send(eio_sid, packet.CONNECT_ERROR, namespace, answer)

    def _tell_refused(self, eio_sid: str, namespace: str, answer: Any, who: Any = (None, None)) -> None:
        if self.watch is not None:
            self.watch.refused(eio_sid, namespace, answer, who)

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
        if self.watch is not None:
            self.watch.leaving(eio_sid, sid, namespace, reason)
        self.manager.pre_disconnect(sid, namespace=namespace)
        self._abandon(eio_sid)
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
            super()._handle_eio_disconnect(eio_sid, reason)  # type: ignore[misc]
        finally:
            self._ending.discard(eio_sid)
            if self.watch is not None:
                self.watch.ended(eio_sid)
