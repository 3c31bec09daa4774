"""A connection that was accepted and has not said yet what it wants: no greenlet waits for it."""

import logging
import re
import socket
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from mintflow_realtime.transport.http.head_reader import HEAD_BYTES, HEAD_SECONDS, READ_BYTES, empty_lines
from mintflow_realtime.transport.http.request_head import BadHead, RequestHead, parse_head
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import Timer, TimerWheel

_END_OF_HEAD = re.compile(rb"\n\r?\n").search
HEAD_TOO_LONG = BadHead(f"The head is longer than {HEAD_BYTES} bytes", "431 Request Header Fields Too Large").response

logger = logging.getLogger(__name__)


class Accepting(Protocol):
    """What a pending connection asks of its server."""

    poller: Poller
    timers: TimerWheel

    def pending_began(self, pending: "PendingConnection") -> None:
        """Note a connection that waits for its head."""
        ...

    def pending_ended(self, pending: "PendingConnection") -> None:
        """Note that it waits no longer."""
        ...

    def head_arrived(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        """Serve a connection whose first head, `read[:end]`, is whole and valid."""
        ...


class PendingConnection:
    """Reads one request head within `HEAD_BYTES` and `HEAD_SECONDS`, then gives the connection to the server."""

    __slots__ = ("_server", "_sock", "_address", "_read", "_timer", "began")

    def __init__(self, server: Accepting, sock: Any, address: Any, read: bytes) -> None:
        """Take over `sock`, the kernel's own and non-blocking; `read` was read from it before."""
        self._server, self._sock, self._address, self._read = server, sock, address, read
        self._timer: Timer | None = None
        self.began = monotonic()

    def begin(self) -> None:
        """Read what is there already, which mostly is all; wait for the rest."""
        if not self._look(0):
            self.ready(0)

    def ready(self, events: int) -> None:
        try:
            chunk = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            self._wait()
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.close()
            return
        searched = max(0, len(self._read) - 2)
        self._read += chunk
        if not self._look(searched):
            self._wait()

    def _look(self, searched: int) -> bool:
        """Act on the head, if it is whole or too long."""
        if searched == 0:
            self._read = self._read[empty_lines(self._read) :]
        end = _END_OF_HEAD(self._read, searched)
        if end is not None and end.end() <= HEAD_BYTES:
            self._take_head(end.end())
        elif end is not None or len(self._read) >= HEAD_BYTES:
            self._refuse(HEAD_TOO_LONG)
        else:
            return False
        return True

    def _take_head(self, end: int) -> None:
        try:
            head = parse_head(self._read[:end])
        except BadHead as error:
            logger.info("Bad request from %s: %s", self._address, error)
            self._refuse(error.response)
            return
        self._leave()
        self._server.head_arrived(self._sock, self._address, head, self._read, end)

    def _refuse(self, response: bytes) -> None:
        with suppress(OSError):
            self._sock.send(response)
            self._sock.shutdown(socket.SHUT_WR)
        self.close()

    def broken(self) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._leave()
        self._sock.close()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = Timer(self.close)
            self._server.timers.set(self._timer, HEAD_SECONDS)
            self._server.poller.add(self._sock.fileno(), self)
            self._server.pending_began(self)

    def _leave(self) -> None:
        if self._timer is not None:
            self._server.timers.cancel(self._timer)
            self._server.poller.remove(self._sock.fileno())
            self._server.pending_ended(self)
