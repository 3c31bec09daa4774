"""A connection that was accepted and has not said yet what it wants: no greenlet waits for it."""

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from transport.head import HEAD_BYTES, HEAD_SECONDS, READ_BYTES
from transport.wheel import Alarm

if TYPE_CHECKING:
    from transport.listener import Server

_END_OF_HEAD = re.compile(rb"\n\r?\n").search
HEAD_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Arrival:
    """Reads one request head within `HEAD_BYTES` and `HEAD_SECONDS`, then gives the connection to the server."""

    __slots__ = ("_server", "_sock", "_address", "_read", "_alarm", "_engine")

    def __init__(self, server: "Server", sock: Any, address: Any, read: bytes) -> None:
        """Take over `sock`, the kernel's own and non-blocking; `read` was read from it before."""
        self._server, self._sock, self._address, self._read = server, sock, address, read
        self._engine = server.transport.engine
        self._alarm: Alarm | None = None

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
        end = _END_OF_HEAD(self._read, searched)
        if end is not None and end.end() <= HEAD_BYTES:
            self._leave()
            self._server.welcome(self._sock, self._address, self._read, end.end())
        elif end is not None or len(self._read) >= HEAD_BYTES:
            with suppress(OSError):
                self._sock.send(HEAD_TOO_LONG)
                self._sock.shutdown(socket.SHUT_WR)
            self.close()
        else:
            return False
        return True

    def broken(self) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._leave()
        self._sock.close()

    def _wait(self) -> None:
        if self._alarm is None:
            self._alarm = Alarm(self.close)
            self._engine.wheel.set(self._alarm, HEAD_SECONDS)
            self._engine.poller.add(self._sock.fileno(), self)
            self._server.arrived(self)

    def _leave(self) -> None:
        if self._alarm is not None:
            self._engine.wheel.cancel(self._alarm)
            self._engine.poller.remove(self._sock.fileno())
            self._server.left(self)
