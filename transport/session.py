"""One Engine.IO session: what is sent to it, what it says, and its one end, over whichever transport it has."""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from transport import frames
from transport.frames import BrokenFrame
from transport.outgoing import PING, Closing, Pong
from transport.packets import MalformedPacket, attachment
from transport.sender import SLOW, Sender
from transport.wheel import NEVER, Alarm

if TYPE_CHECKING:
    from transport.engine import EngineServer
    from transport.upgrade import Upgrade
    from transport.websocket import WebSocket

logger = logging.getLogger(__name__)

# How long a client that polls may fetch what was said before the end, such as a DISCONNECT.
LAST_WORDS_SECONDS = 1.0


class Session(Sender):
    """A session that is in `server.sockets` from its handshake until its disconnect handlers have run.

    At rest it holds neither an outbox nor a greenlet. `polling` is None for one that began as a WebSocket, `link` until
    there is a WebSocket. `introduced`: it has sent a CONNECT.
    """

    __slots__ = (
        "introduced",
        "closed",
        "upgrading",
        "paused",
        "_alarm",
        "_pinged",
        "_awaited",
        "_joining",
        "_own",
        "__weakref__",
    )

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self.upgrading: Upgrade | None = None
        self.introduced = self.closed = False
        self.paused = 0
        self._alarm = Alarm(self._heartbeat)
        self._pinged = False
        self._awaited: deque[Callable[[], None] | None] | None = None
        self._joining: Alarm | None = None
        self._own: dict[str, Any] | None = None

    @property
    def session(self) -> dict[str, Any]:
        """What an application keeps here (python-engineio's `save_session`)."""
        if self._own is None:
            self._own = {}
        return self._own

    @session.setter
    def session(self, own: dict[str, Any]) -> None:
        self._own = own

    @property
    def last_words(self) -> bool:
        """Tell whether something waits for a client that polls, though the session has ended."""
        return self.closing and self.outbox is not None and self.polling is not None and not self.polling.waiting

    # Its time

    def begin(self) -> None:
        """Start the heartbeat, and the time in which it must join a namespace."""
        self.server.wheel.set(self._alarm, self.server.ping_interval, early=True)
        self.expect_join()

    def expect_join(self) -> None:
        """Close this connection unless it joins a namespace within the server's `connect_timeout`."""
        if not self.closing and self.server.connect_timeout > 0:
            self._joining = Alarm(partial(self.close, self.server.reason.SERVER_DISCONNECT))
            self.server.wheel.set(self._joining, self.server.connect_timeout)

    def joined(self) -> None:
        if self._joining is not None:
            self.server.wheel.cancel(self._joining)
            self._joining = None

    def confirm(self, then: Callable[[], None]) -> None:
        """Ping now, and call `then` in a greenlet when that is answered: all before it has arrived then."""
        if self._awaited is None:
            # The answer to a heartbeat may be under way, and comes first.
            self._awaited = deque([None] if self._pinged else [])
        self._awaited.append(then)
        self._ping()

    def _ping(self) -> None:
        self._pinged = True
        self.server.wheel.set(self._alarm, self.server.ping_timeout)
        self.post(PING)

    def _ponged(self) -> None:
        then = self._awaited.popleft() if self._awaited else None
        if then is not None:
            self.server.crew.run(then)
        if self._pinged and not self._awaited:
            self._pinged, self._awaited = False, None
            self.server.wheel.set(self._alarm, self.server.ping_interval, early=True)

    def _heartbeat(self) -> None:
        if not self._pinged:
            self._ping()
        elif self.paused:
            # Its answer may wait among what isn't read.
            self.server.wheel.set(self._alarm, self.server.ping_timeout)
        else:
            self.close(self.server.reason.PING_TIMEOUT)

    # Receiving

    def take(self, message: str | bytes) -> None:
        """Act on one packet of a WebSocket. Raises BrokenFrame."""
        try:
            self.receive(message)
        except MalformedPacket as error:
            logger.info("Session %s: %s", self.sid, error)
            raise BrokenFrame(frames.POLICY, "Malformed packet") from None

    def receive(self, packet: str | bytes) -> None:
        """Act on one packet. Raises MalformedPacket, and whatever the message handler raises."""
        if self.closing:
            return
        if not isinstance(packet, str):
            self.server.handlers["message"](self.sid, packet)
            return
        kind = packet[:1]
        if kind == "4":
            self.server.handlers["message"](self.sid, packet[1:])
        elif kind == "3":
            self._ponged()
        elif kind == "b":
            self.server.handlers["message"](self.sid, attachment(packet))
        elif kind == "1":
            if self.polling is not None:
                self.polling.client_closed = True
            self.close(self.server.reason.CLIENT_DISCONNECT)
        elif kind not in ("5", "6"):
            raise MalformedPacket(f"Packet that begins with {packet[:8]!r}")

    def pinged(self, payload: bytes) -> None:
        self.post(Pong(payload))

    def upgrade(self, link: "WebSocket") -> None:
        """Go over from polling to a WebSocket that was probed."""
        link.owner, self.link = self, link
        polling, self.polling = self.polling, None
        if polling is not None:
            polling.upgraded()
        if self.paused:
            link.pause()
        self.writable()

    def pause(self) -> None:
        """Read nothing more from this client until as many calls of `resume`."""
        self.paused += 1
        if self.link is not None:
            self.link.pause()

    def resume(self) -> None:
        """Go on reading, unless something else keeps it paused."""
        self.paused -= 1
        if not self.paused:
            if self.link is not None:
                self.link.resume()
            if self.polling is not None:
                self.polling.resumed()

    # Ending

    def lost(self, whole: bool) -> None:
        """Hear that the WebSocket has ended."""
        reason = self.server.reason
        self.close(reason.TRANSPORT_CLOSE if whole else reason.TRANSPORT_ERROR)

    def close(self, reason: str | None = None, code: int = frames.NORMAL) -> None:
        """End the session: no more is sent but what waits, the TCP connection ends within a second, handlers run."""
        if self.closing:
            return
        self.closing = True
        self.server.direct.pop(self.sid, None)
        self.server.wheel.cancel(self._alarm)
        self.joined()
        link = self.link
        if link is not None and link.owner is self:
            if reason == SLOW:
                # It doesn't read: a close frame would wait behind what is given up.
                link.abort()
            elif self.outbox is not None:
                self.outbox.put_last(Closing(code))
                link.linger()
            else:
                link.finish(code)
        if self.polling is not None:
            if reason not in (None, self.server.reason.SERVER_DISCONNECT) and not self.polling.waiting:
                self.outbox = None
            self.polling.end()
        if self.upgrading is not None:
            self.upgrading.abort()
        self.server.departures.run(partial(self._depart, reason or self.server.reason.SERVER_DISCONNECT))

    def discard(self) -> None:
        """End a session that was refused before the client knew it: no disconnect event."""
        self.closing = self.closed = True
        self.server.wheel.cancel(self._alarm)
        self.joined()
        self.forget()

    def _depart(self, reason: str) -> None:
        try:
            self.server.handlers["disconnect"](self.sid, reason)
        except Exception:
            logger.exception("Session %s: a disconnect handler failed", self.sid)
        finally:
            self.closed = True
            if self.last_words:
                self.server.wheel.set(Alarm(self.forget), LAST_WORDS_SECONDS)
            else:
                self.forget()

    def forget(self) -> None:
        """Be unknown from now on."""
        self.server.sockets.pop(self.sid, None)
        self._alarm, self.polling, self._awaited = NEVER, None, None
