"""The sending half of a session: straight to the kernel while it takes everything, else through a bounded outbox."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from mintflow_realtime.metrics.series import SENT_BYTES, SENT_PACKETS, SLOW_CONSUMERS
from mintflow_realtime.transport.engine_io.context import SessionContext
from mintflow_realtime.transport.engine_io.message import Message
from mintflow_realtime.transport.engine_io.outbox import Outbox
from mintflow_realtime.transport.engine_io.response import Answer
from mintflow_realtime.transport.http.environ import Environ
from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.connection import WebSocket

SLOW = "slow consumer"
"""The reason of a session's end whose outbox was full."""
TELL_BELOW = 0.5
"""The share of an outbox in use below which its client is told what was dropped, and what it asks for is done."""
PAUSE_SECONDS = 1.0
"""What waited for less is not worth a word."""


class LongPolling(Protocol):
    """The polling side of a session, from its handshake over HTTP until its upgrade."""

    client_closed: bool

    @property
    def waiting(self) -> bool:
        """Tell whether a poll is open."""
        ...

    def answer_poll(self, environ: Environ) -> Answer:
        """Wait for packets and return them."""
        ...

    def answer_post(self, environ: Environ) -> Answer:
        """Act on the packets of a request's body."""
        ...

    def wake(self) -> None:
        """Let the open poll look: something waits, an upgrade began, or the session ends."""
        ...

    def resumed(self) -> None:
        """Let the open POST go on."""
        ...

    def end(self) -> None:
        """Let go of both requests: the session has ended."""
        ...

    def upgraded(self) -> None:
        """Answer the open poll, if there is one: what waits goes over the WebSocket."""
        ...


class Sender:
    """What a session is sent. Nothing here blocks or runs a handler, wherever it is called from."""

    __slots__ = ("context", "sid", "link", "outbox", "polling", "closing", "_awaiting_room", "_taken")

    def __init__(self, context: SessionContext, sid: str) -> None:
        self.context, self.sid = context, sid
        self.link: WebSocket | None = None
        self.outbox: Outbox | None = None
        self.polling: LongPolling | None = None
        self.closing = False
        self._awaiting_room: list[Callable[[], None]] | None = None
        # Whether anything that waited was taken, since a heartbeat looked.
        self._taken = False

    @property
    def backlog(self) -> float:
        """The share of the outbox that is in use."""
        return 0.0 if self.outbox is None else self.outbox.share

    def room(self, then: Callable[[], None]) -> bool:
        """Tell whether what was asked for can be done now; else call `then` when it can, or when the session ends."""
        if self.outbox is None or self.closing or self.outbox.share < TELL_BELOW:
            return True
        if self._awaiting_room is None:
            self._awaiting_room = []
        self._awaiting_room.append(then)
        return False

    def took(self) -> None:
        """Note that the client took something of what waits."""
        self._taken = True
        if self._awaiting_room is not None and (self.outbox is None or self.closing or self.outbox.share < TELL_BELOW):
            awaiting, self._awaiting_room = self._awaiting_room, None
            for then in awaiting:
                self.context.greenlets.run(then)

    def post(self, message: Message) -> None:
        """Send a message, in its order."""
        link, frame = self.link, message._frame or message.frame
        SENT_PACKETS.value += 1
        SENT_BYTES.value += len(frame)
        if link is None or self.outbox is not None:
            self._put(message)
            return
        if self.closing:
            return
        try:
            sent = link.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the poller tells of it
        if sent != len(frame):
            self.cut(message, sent)

    def cut(self, message: Message, sent: int) -> None:
        """Keep what the kernel did not take of a message that was sent when nothing waited."""
        self.context.direct.pop(self.sid, None)
        self.outbox = Outbox(self.context.outbox_bytes)
        if sent:
            self.outbox.keep(memoryview(message.frame)[sent:], message)
        else:
            self.outbox.put(message)
        if self.link is not None:
            self.link.watch_writing(True)

    def cut_within(self, messages: Sequence[Message], sent: int) -> None:
        """The same for messages that were sent together."""
        for number, message in enumerate(messages):
            size = len(message.frame)
            if sent < size:
                self.cut(message, sent)
                for later in messages[number + 1 :]:
                    self._put(later)
                return
            sent -= size

    def flows(self) -> None:
        """Let messages go straight to the kernel, now that nothing waits."""
        if self.link is not None and self.outbox is None and not self.closing:
            self.context.direct[self.sid] = self.link.send

    def _put(self, message: Message) -> None:
        if self.closing:
            return
        if self.outbox is None:
            self.outbox = Outbox(self.context.outbox_bytes)
        if not self.outbox.put(message, self.context.merge):
            SLOW_CONSUMERS.value += 1
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
                if sent:
                    self.took()
                self.tell_dropped(outbox)
                return
        self.outbox = None
        link.watch_writing(False)
        self.flows()
        if self.closing:
            link.finish(frames.NORMAL, said=True)
        elif outbox is not None:
            self.took()
            self.tell_dropped(outbox)
            self.emptied(outbox)

    def emptied(self, outbox: Outbox) -> None:
        """Note that all of an outbox was taken, where that was long in coming."""
        seconds = monotonic() - outbox.began
        if seconds >= PAUSE_SECONDS:
            self.context.note_pause(self.sid, seconds)

    def tell_dropped(self, outbox: Outbox) -> None:
        """Let a client that takes more by now hear what it has missed."""
        if outbox.dropped and outbox.share < TELL_BELOW and not self.closing:
            if outbox.gaps:
                self.context.note_gaps(self.sid, outbox.take_gaps())
            self.context.tell_dropped(self.sid, outbox.told())

    def close(self, reason: str | None = None, code: int = frames.NORMAL) -> None:
        """End the session."""
        raise NotImplementedError
