"""A WebSocket that a polling session may go over to: two packets of the client settle it (Engine.IO, "Upgrade")."""

import logging
from contextlib import suppress

from mintflow_realtime.transport.engine_io.message import PROBE_ANSWER
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.loop.timer_wheel import Timer
from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.connection import WebSocket
from mintflow_realtime.transport.websocket.frames import BrokenFrame

logger = logging.getLogger(__name__)

UPGRADE_SECONDS = 10.0  # Node's upgradeTimeout


class Upgrade:
    """Owns the WebSocket until it is the session's; where it fails, polling goes on as if nothing had been."""

    __slots__ = ("_session", "_probed", "_timer", "_link")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._probed = False
        self._link: WebSocket | None = None
        self._timer = Timer(self._give_up)

    def begin(self, link: WebSocket, read: bytes) -> None:
        """Wait for the probe on `link`; `read` came right behind its request."""
        self._link = link
        self._session.upgrading = self
        self._session.context.timers.set(self._timer, UPGRADE_SECONDS)
        link.start(read)

    def take(self, message: str | bytes) -> None:
        session, link = self._session, self._link
        assert link is not None
        if message == "2probe" and not self._probed and not session.closing:
            self._probed = True
            with suppress(OSError):
                link.send(PROBE_ANSWER.frame)
            if session.polling is not None:
                session.polling.wake()
        elif message == "5" and self._probed and not session.closing:
            self._end()
            session.upgrade(link)
        else:
            raise BrokenFrame(frames.POLICY, "Not the probe of an upgrade")

    def pinged(self, payload: bytes) -> None:
        if self._link is not None:
            with suppress(OSError):
                self._link.send(frames.frame(frames.PONG, payload))

    def writable(self) -> None:
        """Nothing waits here."""

    def lost(self, whole: bool) -> None:
        logger.info("Session %s: the upgrade failed", self._session.sid)
        self._end()

    def abort(self) -> None:
        """End the WebSocket: its session has ended."""
        if self._link is not None:
            self._link.finish(frames.NORMAL)
        self._end()

    def _give_up(self) -> None:
        if self._link is not None:
            self._link.finish(frames.POLICY, "No upgrade")
        self.lost(False)

    def _end(self) -> None:
        self._session.context.timers.cancel(self._timer)
        self._session.upgrading = None
        self._link = None
