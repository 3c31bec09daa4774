"""The sending half of a session: straight to the kernel while it takes everything, else through a bounded outbox."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transport import frames
from transport.outbox import Outbox
from transport.outgoing import Outgoing

if TYPE_CHECKING:
    from transport.engine import EngineServer
    from transport.polling import Polling
    from transport.websocket import WebSocket

SLOW = "slow consumer"
"""The reason of a session's end whose outbox was full."""
TELL_BELOW = 0.5
"""The share of an outbox in use below which its client is told what was dropped."""


class Sender:
    """What a session is sent. Nothing here blocks or runs a handler, wherever it is called from."""

    __slots__ = ("server", "sid", "link", "outbox", "polling", "closing")

    def __init__(self, server: "EngineServer", sid: str) -> None:
        self.server, self.sid = server, sid
        self.link: WebSocket | None = None
        self.outbox: Outbox | None = None
        self.polling: Polling | None = None
        self.closing = False

    @property
    def backlog(self) -> float:
        """The share of the outbox that is in use."""
        return 0.0 if self.outbox is None else self.outbox.share

    def post(self, message: Outgoing) -> None:
        """Send a message, in its order."""
        link = self.link
        if link is None or self.outbox is not None:
            self._put(message)
            return
        if self.closing:
            return
        try:
            sent = link.send(message._frame or message.frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the poller tells of it
        if sent != len(message.frame):
            self.cut(message, sent)

    def cut(self, message: Outgoing, sent: int) -> None:
        """Keep what the kernel did not take of a message that was sent when nothing waited."""
        self.server.direct.pop(self.sid, None)
        self.outbox = Outbox(self.server.outbox_bytes)
        if sent:
            self.outbox.keep(memoryview(message.frame)[sent:])
        else:
            self.outbox.put(message)
        if self.link is not None:
            self.link.watch_writing(True)

    def cut_within(self, messages: Sequence[Outgoing], sent: int) -> None:
        """The same for messages that were sent together."""
        for number, message in enumerate(messages):
            size = len(message.frame)
            if sent < size:
                self.cut(message, sent)
                for later in messages[number + 1 :]:
                    self.post(later)
                return
            sent -= size

    def flows(self) -> None:
        """Let messages go straight to the kernel, now that nothing waits."""
        if self.link is not None and self.outbox is None and not self.closing:
            self.server.direct[self.sid] = self.link.send

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
                self.tell_dropped(outbox)
                return
        self.outbox = None
        link.watch_writing(False)
        self.flows()
        if self.closing:
            link.finish(frames.NORMAL, said=True)
        elif outbox is not None:
            self.tell_dropped(outbox)

    def tell_dropped(self, outbox: Outbox) -> None:
        """Let a client that takes more by now hear what it has missed."""
        if outbox.dropped and outbox.share < TELL_BELOW and not self.closing:
            self.server.tell_dropped(self.sid, outbox.told())

    def close(self, reason: str | None = None, code: int = frames.NORMAL) -> None:
        """End the session."""
        raise NotImplementedError
