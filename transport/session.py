"""One Engine.IO session: what is sent to it, what it says, and its one end, over whichever transport it has."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from transport import frames
from transport.frames import BrokenFrame
from transport.outbox import Outbox
from transport.outgoing import PING, Closing, Outgoing, Pong
from transport.packets import MalformedPacket, attachment
from transport.wheel import NEVER, Alarm

if TYPE_CHECKING:
    from transport.engine import EngineServer
    from transport.polling import Polling
    from transport.upgrade import Upgrade
    from transport.websocket import WebSocket

logger = logging.getLogger(__name__)

SLOW = "slow consumer"
# How long a client that polls may fetch what was said before the end, such as a DISCONNECT.
LAST_WORDS_SECONDS = 1.0


class Session:
    """A session that is in `server.sockets` from its handshake until its disconnect handlers have run.

    At rest it holds neither an outbox nor a greenlet. `polling` is None for one that began as a WebSocket, `link` until
    there is a WebSocket. `introduced`: it has sent a CONNECT.
    """

    __slots__ = (
        "server",
        "sid",
        "link",
        "outbox",
        "polling",
        "introduced",
        "closing",
        "closed",
        "upgrading",
        "paused",
        "_alarm",
        "_pinged",
        "_joining",
        "_own",
        "__weakref__",
    )

    def __init__(self, server: "EngineServer", sid: str) -> None:
        self.server, self.sid = server, sid
        self.link: WebSocket | None = None
        self.outbox: Outbox | None = None
        self.polling: Polling | None = None
        self.upgrading: Upgrade | None = None
        self.introduced = self.closing = self.closed = False
        self.paused = 0
        self._alarm = Alarm(self._heartbeat)
        self._pinged = False
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
    def backlog(self) -> float:
        """The share of the outbox that is in use."""
        return 0.0 if self.outbox is None else self.outbox.share

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

    def _heartbeat(self) -> None:
        if not self._pinged:
            self._pinged = True
            self.server.wheel.set(self._alarm, self.server.ping_timeout)
            self.post(PING)
        elif self.paused:
            # Its answer may wait among what isn't read.
            self.server.wheel.set(self._alarm, self.server.ping_timeout)
        else:
            self.close(self.server.reason.PING_TIMEOUT)

    # Sending

    def post(self, message: Outgoing) -> None:
        """Send a message: straight to the kernel where nothing waits. Never blocks, never runs a handler."""
        link = self.link
        if link is None or self.outbox is not None:
            self._put(message)
            return
        if self.closing:
            return
        frame = message._frame or message.frame
        try:
            sent = link.send(frame)
        except BlockingIOError:
            self._put(message)
            link.watch_writing(True)
            return
        except OSError:
            return  # the poller tells of it
        if sent != len(frame):
            self.outbox = Outbox(self.server.outbox_bytes)
            self.outbox.keep(memoryview(frame)[sent:])
            link.watch_writing(True)

    def _put(self, message: Outgoing) -> None:
        if self.closing:
            return
        if self.outbox is None:
            self.outbox = Outbox(self.server.outbox_bytes)
        if not self.outbox.put(message, self.server.merge):
            self.close(SLOW)
        elif self.polling is not None:
            self.polling.wake()

    def writable(self) -> None:
        """Send what waits, as far as the kernel takes it."""
        link, outbox = self.link, self.outbox
        if link is None:
            return
        while outbox is not None:
            waiting = outbox.take_bytes()
            if not waiting:
                break
            try:
                sent = link.send(waiting)
            except BlockingIOError:
                sent = 0
            except OSError:
                return
            if sent != len(waiting):
                outbox.keep(memoryview(waiting)[sent:])
                if outbox.dropped and outbox.share < 0.5:
                    self.server.tell_dropped(self.sid, outbox.told())
                return
        self.outbox = None
        link.watch_writing(False)
        if self.closing:
            link.finish(frames.NORMAL, said=True)
        elif outbox is not None and outbox.dropped:
            self.server.tell_dropped(self.sid, outbox.told())

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
            if self._pinged:
                self._pinged = False
                self.server.wheel.set(self._alarm, self.server.ping_interval, early=True)
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
        self.server.wheel.cancel(self._alarm)
        self.joined()
        link = self.link
        if link is not None and link.owner is self:
            if reason == SLOW:
                # It doesn't read: a close frame would wait behind what is given up.
                link.abort()
            elif self.outbox is not None:
                self.outbox.put(Closing(code))
                link.linger()
            else:
                link.finish(code)
        if self.polling is not None:
            if reason not in (None, self.server.reason.SERVER_DISCONNECT) and not self.polling.waiting:
                self.outbox = None
            self.polling.end()
        if self.upgrading is not None:
            self.upgrading.abort()
        self.server.crew.run(partial(self._depart, reason or self.server.reason.SERVER_DISCONNECT))

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
        self._alarm, self.polling = NEVER, None
