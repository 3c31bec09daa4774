"""Between the gate and the transport, which know nothing of each other."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mintflow_realtime.admission.gate import Gate
from mintflow_realtime.admission.recovery import ReplayUncertain
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from mintflow_realtime.transport.socket_io.admission import AnswerThenClose, NotNow, Refusal


class SocketGate:
    """Says in the transport's words what the gate decides."""

    def __init__(self, gate: Gate, replay_confirmed: Callable[[Session], None]) -> None:
        self._gate, self._replay_confirmed = gate, replay_confirmed
        self.joined = gate.joined
        self.left = gate.left
        self.prepare = gate.prepare

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> str:
        try:
            return self._gate.admit(eio_sid, sid, namespace, environ, auth)
        except Unavailable as error:
            raise NotNow(error.message, busy=bool(error.detail)) from None
        except RealtimeError as error:
            raise Refusal(error.message, error.code, error.who) from None
        except ReplayUncertain as uncertain:
            session = uncertain.session
            raise AnswerThenClose(
                {"sid": session.sid, "pid": session.pid}, partial(self._replay_confirmed, session)
            ) from None
