"""One Engine.IO session: what is sent to it, what it says, and its one end, over whichever transport it has."""

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Protocol

from mintflow_realtime.metrics.series import CLOSES, RECEIVED_PACKETS
from mintflow_realtime.transport.engine_io.context import SessionContext
from mintflow_realtime.transport.engine_io.message import PING, Closing, Pong
from mintflow_realtime.transport.engine_io.packet import MalformedPacket, attachment
from mintflow_realtime.transport.engine_io.sender import SLOW, Sender
from mintflow_realtime.transport.loop.timer_wheel import NEVER, Timer
from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.connection import WebSocket
from mintflow_realtime.transport.websocket.frames import BrokenFrame

logger = logging.getLogger(__name__)

# How long a client that polls may fetch what was said before the end, such as a DISCONNECT.
LAST_WORDS_SECONDS = 1.0


class Probe(Protocol):
    """A WebSocket that the session may go over to."""

    def abort(self) -> None:
        """End it: its session has ended."""
        ...


class Session(Sender):
    """A session that is in `context.sockets` from its handshake until its disconnect handlers have run.

    At rest it holds neither an outbox nor a greenlet. `polling` is None for one that began as a WebSocket, `link` until
    there is a WebSocket. `introduced`: what its last CONNECTs said, in short; empty before the first.
    """

    __slots__ = (
        "introduced",
        "closed",
        "upgrading",
        "paused",
        "_timer",
        "_pinged",
        "_pong_due",
        "_read_until",
        "_awaited",
        "_joining",
        "_own",
        "__weakref__",
    )

    def __init__(self, context: SessionContext, sid: str) -> None:
        super().__init__(context, sid)
        self.upgrading: Probe | None = None
        self.closed = False
        self.introduced = b""
        self.paused = 0
        self._timer = Timer(self._heartbeat)
        # How many pings are not answered yet.
        self._pinged = 0
        self._pong_due = 0.0
        # Until then an answer is awaited that came while nothing was read.
        self._read_until = 0.0
        self._awaited: deque[Callable[[], None] | None] | None = None
        self._joining: Timer | None = None
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
        self.context.timers.set(self._timer, self.context.ping_interval, early=True)
        self.expect_join()

    def expect_join(self) -> None:
        """Close this connection unless it joins a namespace within `connect_timeout`."""
        if not self.closing and self.context.connect_timeout > 0:
            self._joining = Timer(partial(self.close, self.context.reason.SERVER_DISCONNECT))
            self.context.timers.set(self._joining, self.context.connect_timeout)

    def joined(self) -> None:
        if self._joining is not None:
            self.context.timers.cancel(self._joining)
            self._joining = None

    def confirm(self, then: Callable[[], None]) -> None:
        """Ping now, and call `then` in a greenlet when that is answered: all before it has arrived then."""
        if self._awaited is None:
            # The answer to a heartbeat may be under way, and comes first.
            self._awaited = deque([None] * self._pinged)
        self._awaited.append(then)
        self._ping()

    def _ping(self) -> None:
        self._pinged += 1
        self._pong_due = monotonic() + self.context.ping_timeout
        self.context.timers.set(self._timer, self.context.ping_timeout)
        self.post(PING)

    def _ponged(self) -> None:
        then = self._awaited.popleft() if self._awaited else None
        if then is not None:
            self.context.greenlets.run(then)
        if not self._pinged:
            return
        self._pinged -= 1
        if not self._pinged:
            self._awaited = None
            self.context.timers.set(self._timer, self.context.ping_interval, early=True)

    def _heartbeat(self) -> None:
        if not self._pinged:
            self._ping()
        elif self._excused():
            # One more, or the client would think that nobody is here.
            if self._awaited is not None:
                self._awaited.append(None)
            self._ping()
        else:
            self.close(self.context.reason.PING_TIMEOUT)

    @property
    def overdue(self) -> bool:
        """Tell whether the answer to a heartbeat should have come by now; the timer's step may be a moment later."""
        return self._pinged > 0 and not self.paused and monotonic() > max(self._pong_due, self._read_until)

    def _excused(self) -> bool:
        """Tell whether an answer to a heartbeat may be late: it wasn't read, or what waits went before the question."""
        taken, self._taken = self._taken, False
        if self.outbox is not None:
            return taken
        return self.paused > 0 or monotonic() < self._read_until

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
        RECEIVED_PACKETS.value += 1
        if not isinstance(packet, str):
            self.context.handlers["message"](self.sid, packet)
            return
        kind = packet[:1]
        if kind == "4":
            self.context.handlers["message"](self.sid, packet[1:])
        elif kind == "3":
            self._ponged()
        elif kind == "b":
            self.context.handlers["message"](self.sid, attachment(packet))
        elif kind == "1":
            if self.polling is not None:
                self.polling.client_closed = True
            self.close(self.context.reason.CLIENT_DISCONNECT)
        elif kind not in ("5", "6"):
            raise MalformedPacket(f"Packet that begins with {packet[:8]!r}")

    def pinged(self, payload: bytes) -> None:
        self.post(Pong(payload))

    def upgrade(self, link: WebSocket) -> None:
        """Go over from polling to a WebSocket that was probed."""
        link.owner, self.link = self, link
        polling, self.polling = self.polling, None
        if polling is not None:
            polling.upgraded()
            self.context.upgraded(self.sid)
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
            self._read_until = monotonic() + self.context.ping_timeout
            if self.link is not None:
                self.link.resume()
            if self.polling is not None:
                self.polling.resumed()

    # Ending

    def lost(self, whole: bool) -> None:
        """Note that the WebSocket has ended."""
        reason = self.context.reason
        self.close(reason.TRANSPORT_CLOSE if whole else reason.TRANSPORT_ERROR)

    def close(self, reason: str | None = None, code: int = frames.NORMAL) -> None:
        """End the session: no more is sent but what waits, the TCP connection ends within a second, handlers run."""
        if self.closing:
            return
        self.closing = True
        CLOSES.add("polling" if self.link is None else str(code), reason or self.context.reason.SERVER_DISCONNECT)
        self.context.direct.pop(self.sid, None)
        self.context.timers.cancel(self._timer)
        self.joined()
        self.took()
        if self.outbox is not None:
            self.context.note_gaps(self.sid, self.outbox.take_gaps())
            self.context.note_unsent(self.sid, self.outbox.first_marks())
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
            if reason not in (None, self.context.reason.SERVER_DISCONNECT) and not self.polling.waiting:
                self.outbox = None
            self.polling.end()
        if self.upgrading is not None:
            self.upgrading.abort()
        self.context.disconnect_greenlets.run(
            partial(self._run_disconnect, reason or self.context.reason.SERVER_DISCONNECT)
        )

    def discard(self) -> None:
        """End a session that was refused before the client knew it: no disconnect event."""
        self.closing = self.closed = True
        self.context.timers.cancel(self._timer)
        self.joined()
        self.forget()

    def _run_disconnect(self, reason: str) -> None:
        try:
            self.context.handlers["disconnect"](self.sid, reason)
        except Exception:
            logger.exception("Session %s: a disconnect handler failed", self.sid)
        finally:
            self.closed = True
            if self.last_words:
                self.context.timers.set(Timer(self.forget), LAST_WORDS_SECONDS)
            else:
                self.forget()

    def forget(self) -> None:
        """Be unknown from now on."""
        self.context.sockets.pop(self.sid, None)
        self._timer, self.polling, self._awaited = NEVER, None, None
