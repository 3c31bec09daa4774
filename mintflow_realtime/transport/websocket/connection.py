"""One open WebSocket on a socket of its own: reading as the poller says, sending straight to the kernel, closing."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Protocol

from gevent import get_hub

from mintflow_realtime.metrics.series import FRAME_FAULTS, RECEIVED_BYTES
from mintflow_realtime.transport.loop.next_turn import next_turn
from mintflow_realtime.transport.loop.poller import BROKEN, READ, WRITE, Poller
from mintflow_realtime.transport.loop.timer_wheel import NEVER, Timer, TimerWheel
from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.frames import BrokenFrame, FrameReader

READ_BYTES = 65_536
# From the first word of closing to the end of the TCP connection: for what waits, and for the peer's answer.
LINGER_SECONDS = 1.0
# Of one client, before others get a turn.
FRAMES_A_TURN = 256


class Owner(Protocol):
    """Who a WebSocket belongs to. All of it runs in the hub and must not block."""

    def take(self, message: str | bytes) -> None:
        """Act on a message. May pause or close the WebSocket; raises BrokenFrame to close it with a code."""
        ...

    def pinged(self, payload: bytes) -> None:
        """Answer a ping, in its place among what is sent."""
        ...

    def writable(self) -> None:
        """Go on sending: the kernel takes more."""
        ...

    def lost(self, whole: bool) -> None:
        """Note, once, that the connection has ended (`whole`), or that it is ended for what was wrong in it."""
        ...


class WebSocket:
    """Tells `owner` what comes, until `lost` or until the owner itself finishes or aborts it."""

    __slots__ = (
        "owner",
        "send",
        "_sock",
        "_descriptor",
        "_poller",
        "_timers",
        "_reader",
        "_events",
        "_paused",
        "_behind",
        "_timer",
        "_ended",
    )

    def __init__(
        self,
        sock: Any,
        owner: Owner,
        poller: Poller,
        timers: TimerWheel,
        limit: int,
        ended: Callable[[], object] | None = None,
    ) -> None:
        """Take over `sock`, the kernel's own and non-blocking; messages have at most `limit` bytes.

        `ended` is called when the TCP connection has, whoever ended it.
        """
        self.owner: Owner | None = owner
        # The kernel's: returns how much it took, raises OSError. A broadcast calls it once a client.
        self.send = sock.send
        self._sock = sock
        self._descriptor: int = sock.fileno()
        self._poller, self._timers = poller, timers
        self._reader = FrameReader(limit)
        self._events = READ
        # By the owner; and because others must get their turn.
        self._paused = self._behind = False
        self._timer: Timer | None = None
        self._ended = ended

    @property
    def lingering(self) -> bool:
        """Tell whether it ends within `LINGER_SECONDS`, or has ended."""
        return self._timer is not None

    def greet(self, greeting: bytes) -> None:
        """Send the first bytes of all: a new connection takes them whole, and one that doesn't is of no use."""
        with contextlib.suppress(OSError):
            if self.send(greeting) == len(greeting):
                return
        owner = self.owner
        self.abort()
        self.owner = owner

    def start(self, read: bytes = b"") -> None:
        """Begin to read; `read` is what came right behind the request that opened it."""
        if self._descriptor < 0:
            self._lose(whole=True)
            return
        self._poller.add(self._descriptor, self, self._events)
        if read:
            self._reader.feed(read)
            self._pump()

    def watch_writing(self, wanted: bool) -> None:
        """Tell the owner when the kernel takes more, or no longer."""
        self._watch(self._events | WRITE if wanted else self._events & ~WRITE)

    def pause(self) -> None:
        """Read nothing more until `resume`."""
        self._paused = True
        self._watch(self._events)

    def resume(self) -> None:
        """Go on with what was read and not told yet, and then with reading."""
        if self._paused:
            self._paused = False
            get_hub().loop.run_callback(self._pump)

    # Ending

    def linger(self) -> None:
        """End the TCP connection in `LINGER_SECONDS`, whatever happens until then."""
        if self._timer is None:
            self._timer = Timer(self.abort)
            self._timers.set(self._timer, LINGER_SECONDS)

    def finish(self, code: int, reason: str = "", *, said: bool = False) -> None:
        """Send a close frame, unless it is `said` or can't be, and end when the peer has answered."""
        self.linger()
        self.owner = None
        if not said:
            with contextlib.suppress(OSError):
                self.send(frames.close_frame(code, reason))
        self._paused = self._behind = False
        self._watch(READ)

    def abort(self) -> None:
        """End the TCP connection now."""
        self.owner = None
        if self._descriptor < 0:
            return
        if self._timer is not None:
            self._timers.cancel(self._timer)
        self._timer = NEVER
        self._poller.remove(self._descriptor)
        self._descriptor = -1
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self.send = _nowhere
        if self._ended is not None:
            self._ended()

    def broken(self) -> None:
        """End: something failed while the owner was told."""
        self._lose(whole=False)
        self.abort()

    # Reading

    def ready(self, events: int) -> None:
        """Write and read, as the poller says."""
        if events & WRITE and self.owner is not None:
            self.owner.writable()
        if self._descriptor < 0:
            return
        if events & ~WRITE and not (self._paused or self._behind):
            self._read()
        elif events & BROKEN:
            self._hang_up()

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        RECEIVED_BYTES.value += len(data)
        self._reader.feed(data)
        self._pump()

    def _pump(self) -> None:
        """Tell the owner what has come whole."""
        if self._descriptor < 0:
            return
        told, self._behind = 0, False
        try:
            while not self._paused:
                frame = self._reader.next()
                if frame is None:
                    self._watch(self._events | READ)
                    return
                self._tell(frame)
                told += 1
                if told == FRAMES_A_TURN:
                    self._behind = True
                    self._watch(self._events)
                    next_turn(self._pump)
                    return
        except BrokenFrame as error:
            if self.owner is None:
                self.abort()
                return
            owner = self.owner
            FRAME_FAULTS.add(str(int(error.code)))
            # Inside a frame that is half sent it would be no frame.
            self.finish(error.code, error.reason, said=bool(self._events & WRITE))
            owner.lost(False)

    def _tell(self, frame: frames.Frame) -> None:
        opcode, payload = frame
        owner = self.owner
        if opcode == frames.CLOSE:
            self._answer_close(payload)
        elif owner is None:
            return
        elif opcode <= frames.BINARY:
            owner.take(payload)
        elif opcode == frames.PING:
            assert isinstance(payload, bytes)
            owner.pinged(payload)

    def _answer_close(self, payload: str | bytes) -> None:
        """Echo the peer's code and end the TCP connection, which is the server's part (section 7.1.1)."""
        assert isinstance(payload, bytes)
        code = frames.close_code(payload)
        if self.owner is not None and not self._events & WRITE:
            with contextlib.suppress(OSError):
                self.send(frames.close_frame(code))
        self._hang_up()

    def _hang_up(self) -> None:
        """End, as the peer or the network did."""
        self._lose(whole=True)
        self.abort()

    def _lose(self, *, whole: bool) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(whole)

    def _watch(self, events: int) -> None:
        if self._paused or self._behind:
            events &= ~READ
        if events != self._events and self._descriptor >= 0:
            self._events = events
            self._poller.change(self._descriptor, events)


def _nowhere(data: bytes) -> int:
    raise BrokenPipeError("The WebSocket has ended")
