"""The buffer between a socket and pywsgi: whole request heads first, so that a connection can still be given away.

Everything is read here and nowhere else; peeking at the kernel's buffer instead breaks on long query strings, split
request lines and pipelining.
"""

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from gevent import get_hub

HEAD_BYTES = 16_384
HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0  # nginx's own keepalive_timeout
BODY_SECONDS = 30.0  # the longest silence inside a body
# A body may take a minute, and longer only if it comes at this rate on the whole.
SLOW_BODY_SECONDS = 60.0
SLOW_BODY_RATE = 1024  # bytes a second
READ_BYTES = 16_384

# Where http.client's header parser stops: an empty line, with or without carriage returns.
_END_OF_HEAD = re.compile(rb"\n\r?\n")
# RFC 9112, 2.2: an old client may send one more behind a body.
_EMPTY_LINES = re.compile(rb"(?:\r\n)*").match

READER_KEY = "transport.reader"
"""The key of the WSGI environ under which the request's `HeadReader` is found."""


def empty_lines(read: bytes | bytearray) -> int:
    """Return how many bytes of empty lines come before a request line."""
    found = _EMPTY_LINES(read)
    return found.end() if found is not None else 0


class HeadTooLong(Exception):
    """No end of the request's head within `HEAD_BYTES`."""


class HeadTooSlow(Exception):
    """No end of the request's head within `HEAD_SECONDS` of its first byte."""


class HeadReader:
    """The file that pywsgi and geventwebsocket read a connection from.

    `sock` is a gevent socket; `start` are bytes that somebody else has read from it already. Errors of the socket and
    silence of more than `timeout` seconds (None: for ever) look like the end of the file.
    """

    def __init__(self, sock: Any, start: bytes = b"") -> None:
        self.timeout: float | None = BODY_SECONDS
        self.gone = False
        self._sock = sock
        self._buffer = bytearray(start)
        self._closed = False
        self._began: float | None = None
        self._received = 0

    def begin_body(self) -> None:
        """Hold what is read from now on to the deadline of a body, until the next head."""
        self._began, self._received = monotonic(), 0

    @property
    def closed(self) -> bool:
        """Tell whether no further request can come: closed here, or the client has gone and nothing is buffered."""
        return self._closed or (self.gone and not self._buffer)

    def close(self) -> None:
        self._closed = True

    def give_up(self) -> None:
        """Let who waits for the next request see the end of the connection."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def pending(self) -> bytes:
        """Return all that was read from the socket and not taken from here yet: under three times `READ_BYTES`."""
        return bytes(self._buffer)

    def fill_head(self, idle: float = IDLE_SECONDS, within: float = HEAD_SECONDS) -> bytes | None:
        """Wait for a whole request head and return it, the empty line included, without taking it.

        None: the client went away, or sent nothing for `idle` seconds. Raises `HeadTooLong` and `HeadTooSlow`.
        """
        self._began = None
        if not self._buffer and not self._receive(idle):
            return None
        deadline = monotonic() + within
        searched = 0
        while True:
            if searched == 0:
                del self._buffer[: empty_lines(self._buffer)]
            end = _END_OF_HEAD.search(self._buffer, searched)
            if end is not None and end.end() <= HEAD_BYTES:
                return bytes(self._buffer[: end.end()])
            if end is not None or len(self._buffer) >= HEAD_BYTES:
                raise HeadTooLong
            searched = max(0, len(self._buffer) - 2)
            left = deadline - monotonic()
            if left <= 0 or not self._receive(left):
                if monotonic() >= deadline:
                    raise HeadTooSlow
                return None

    def read(self, size: int | None = -1) -> bytes:
        """Return `size` bytes, fewer only at the end of the file; all of it without a size."""
        wanted = -1 if size is None else size
        while (wanted < 0 or len(self._buffer) < wanted) and self._receive(self.timeout):
            pass
        return self._take(len(self._buffer) if wanted < 0 else wanted)

    def readline(self, limit: int | None = -1) -> bytes:
        """Return one line with its end, or `limit` bytes of a longer one."""
        most = -1 if limit is None else limit
        searched = 0
        while True:
            newline = self._buffer.find(b"\n", searched)
            length = newline + 1 if newline >= 0 else len(self._buffer)
            if 0 <= most <= length:
                return self._take(most)
            if newline >= 0:
                return self._take(length)
            searched = length
            if not self._receive(self.timeout):
                return self._take(len(self._buffer))

    def watch_peer(self, left: Callable[[], object]) -> Callable[[], None]:
        """Call `left` in the hub when the client closes the connection; return the function that ends the watch.

        Nobody may read meanwhile. What the client sends ahead is kept, up to `HEAD_BYTES`; beyond that the watch ends.
        """
        watcher = get_hub().loop.io(self._sock.fileno(), 1)

        def readable() -> None:
            try:
                chunk = self._sock._sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            self._buffer += chunk
            if chunk and len(self._buffer) < HEAD_BYTES:
                return
            watcher.stop()
            if not chunk:
                self.gone = True
                left()

        def stop() -> None:
            watcher.stop()
            watcher.close()

        watcher.start(readable)
        return stop

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self, seconds: float | None) -> bool:
        if self.gone:
            return False
        if self._began is not None:
            left = self._began + SLOW_BODY_SECONDS + self._received / SLOW_BODY_RATE - monotonic()
            seconds = left if seconds is None else min(seconds, left)
        try:
            self._sock.settimeout(max(0.001, seconds) if seconds is not None else None)
            chunk = self._sock.recv(READ_BYTES)
        except OSError:
            chunk = b""
        finally:
            self._sock.settimeout(None)
        # A body cut short by silence can't be resumed as the next request, so a timeout is final as well.
        self.gone = not chunk
        self._buffer += chunk
        self._received += len(chunk)
        return bool(chunk)
