"""Between the gate and the transport, which know nothing of each other."""

from collections.abc import Callable
from functools import partial
from typing import Any

from fanout.sessions import Session
from namespaces.gate import Gate
from namespaces.returns import Held
from protocol.errors import RealtimeError, Unavailable
from transport.admission import NotNow, Passing, Refusal


class SocketGate:
    """Says in the transport's words what the gate decides."""

    def __init__(self, gate: Gate, passed_on: Callable[[Session], None]) -> None:
        self._gate, self._passed_on = gate, passed_on
        self.joined = gate.joined
        self.left = gate.left
        self.prepare = gate.prepare

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> str:
        try:
            return self._gate.admit(eio_sid, sid, namespace, environ, auth)
        except Unavailable as error:
            raise NotNow(error.message) from None
        except RealtimeError as error:
            raise Refusal(error.message, error.code) from None
        except Held as held:
            session = held.session
            raise Passing({"sid": session.sid, "pid": session.pid}, partial(self._passed_on, session)) from None
