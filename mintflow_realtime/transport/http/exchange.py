"""One Engine.IO request over HTTP and its response, without pywsgi and its costly header parser."""

import logging
from collections.abc import Callable, Iterable
from email.utils import formatdate
from time import monotonic, time
from typing import Any

from mintflow_realtime.transport.http.environ import Environ, asks_for_upgrade, asks_to_close
from mintflow_realtime.transport.http.head_reader import BODY_SECONDS, HeadReader

logger = logging.getLogger(__name__)

DISCARD_BYTES = 4_194_304  # of a body that nobody read, so that its sender reads our answer before a reset
DISCARD_SECONDS = 2.0

_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_date: tuple[int, str] = (0, "")


class Body:
    """The request's body as WSGI has it: `wsgi.input` of a known length, read from the connection when asked for."""

    __slots__ = ("_reader", "left")

    def __init__(self, reader: HeadReader, length: int) -> None:
        self._reader = reader
        self.left = length

    @property
    def gone(self) -> bool:
        """Tell whether the client has left."""
        return self._reader.gone

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes, all that is left without a size. Raises OSError where the body ends early."""
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data = self._reader.read(wanted)
        if len(data) < wanted:
            raise ConnectionError("The body ended early")
        self.left -= wanted
        return data

    def readline(self, size: int | None = -1) -> bytes:
        """Return the next line, or `size` bytes of a longer one."""
        line = self._reader.readline(self.left if size is None or size < 0 else min(size, self.left))
        self.left -= len(line)
        return line

    def discard(self) -> bool:
        """Read what nobody has read, up to a bound; False where more is left."""
        end, most = monotonic() + DISCARD_SECONDS, DISCARD_BYTES
        self._reader.timeout = DISCARD_SECONDS
        try:
            while self.left and most > 0 and monotonic() < end:
                most -= len(self.read(16_384))
        except OSError:
            return False
        finally:
            self._reader.timeout = BODY_SECONDS
        return not self.left

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> "Body":
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


class Exchange:
    """Runs a WSGI application for one request whose head, of `size` bytes, is still in `reader`."""

    def __init__(self, sock: Any, reader: HeadReader, environ: Environ, size: int) -> None:
        self._sock = sock
        self._environ = environ
        reader.read(size)
        reader.begin_body()
        self._body = environ["wsgi.input"] = Body(reader, int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input_terminated"] = True
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        """How many bytes of the answer's body were sent."""

    def run(self, application: Callable[..., Iterable[bytes]], last: Callable[[], bool]) -> bool:
        """Answer; return whether the connection goes on. `last`: it must not, asked when the answer is there."""
        result: Any = None
        try:
            try:
                result = application(self._environ, self._start)
                pieces = iter(result)
                # The application learns that a piece was sent when it is asked for the next.
                first = next(pieces, b"")
            except Exception:
                if not self._body.gone:
                    logger.exception("An Engine.IO request failed")
                    self.status = "500 Internal Server Error"
                    self._sock.sendall(_ERROR)
                return False
            ends = last() or self._asks_to_end() or self._body.left > DISCARD_BYTES
            head = self._head(len(first), ends)
            if self._environ["REQUEST_METHOD"] == "HEAD":
                self._sock.sendall(head)
            else:
                self._sock.sendall(head + first)
                self.sent = len(first)
                for piece in pieces:
                    self._sock.sendall(piece)
                    self.sent += len(piece)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        return self._body.discard() and not ends

    def _asks_to_end(self) -> bool:
        """Tell whether the client closes, or may go on with frames: it asked for a WebSocket and doesn't get one."""
        return asks_to_close(self._environ) or asks_for_upgrade(self._environ)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return self._sock.sendall  # type: ignore[no-any-return]

    def _head(self, size: int, ends: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status}", f"Date: {_now()}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not self.status.startswith("204") and not any(name.lower() == "content-length" for name, _ in self.headers):
            lines.append(f"Content-Length: {size}")
        if ends:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _now() -> str:
    """Return the time for a `Date` header, made once a second."""
    global _date
    second = int(time())
    if second != _date[0]:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]
