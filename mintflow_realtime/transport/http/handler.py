"""One HTTP connection in its greenlet: each head is looked at before anything else is done about it.

Overrides private methods of gevent's pywsgi 26.9.0.
"""

import logging
import socket
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from gevent.pywsgi import Input, WSGIHandler

from mintflow_realtime.transport.http.access_lines import AccessLines
from mintflow_realtime.transport.http.environ import Environ, asks_for_upgrade, asks_to_close, environ_of
from mintflow_realtime.transport.http.exchange import Exchange
from mintflow_realtime.transport.http.forwarded import TrustedProxies
from mintflow_realtime.transport.http.head_reader import READER_KEY, HeadReader, HeadTooLong, HeadTooSlow
from mintflow_realtime.transport.http.pending import HEAD_TOO_LONG
from mintflow_realtime.transport.http.request_body import RequestBody
from mintflow_realtime.transport.http.request_head import BadHead, RequestHead, parse_head
from mintflow_realtime.transport.loop.kernel_socket import duplicate

# Who takes less of an answer in that time is cut off: 1 KB a second, as for a body.
SEND_BYTES = 65_536
SEND_SECONDS = 60.0
_RESET = struct.pack("ii", 1, 0)

DETACH_KEY = "transport.detach"
"""The key of the WSGI environ of a list, into which an application puts what goes on with an answer of events.

It is called behind the head, with the kernel's socket, and with whether what follows is to be in chunks.
"""

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """What a handler asks of its server."""

    application: Any
    served: int
    keep_alive: float
    proxies: TrustedProxies
    access_lines: AccessLines | None

    @property
    def draining(self) -> bool:
        """Tell whether connections must end with the request that they are at."""
        ...

    def idling(self, reader: HeadReader) -> AbstractContextManager[None]:
        """Note a connection that waits for its next request."""
        ...

    def takes_over(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> bool:
        """Tell whether somebody else goes on with the connection: another worker, or a WebSocket."""
        ...

    def own_environ(self, head: RequestHead, address: Any) -> Environ | None:
        """Return the environ of a request that is answered without pywsgi; None for all others."""
        ...

    def get_environ(self) -> Environ:
        """Return a new environ with what all requests have."""
        ...


class Handler(WSGIHandler):
    """pywsgi's handler over a `HeadReader`, which leaves the reading of heads to ours.

    `start` are bytes read from `sock` already, and `head` is what the first `end` of them say.
    """

    server: Serving  # type: ignore[assignment]
    rfile: HeadReader  # type: ignore[assignment]
    wsgi_input: RequestBody
    socket: Any

    def __init__(
        self,
        sock: Any,
        address: Any,
        server: Serving,
        start: bytes = b"",
        head: RequestHead | None = None,
        end: int = 0,
    ) -> None:
        super().__init__(sock, address, server, rfile=HeadReader(sock, start))  # type: ignore[call-arg, arg-type]
        self._head, self._size = head, end
        self._unlogged: RequestHead | None = None

    def handle(self) -> None:
        """Serve the connection's requests until it ends or leaves: to another worker, or as a WebSocket."""
        try:
            super().handle()
        except OSError as error:
            logger.debug("Connection of %s ended: %s", self.client_address, error)

    def handle_one_request(self) -> Any:
        """Read one head, and answer its request or let the connection go; see pywsgi for what is returned."""
        try:
            head = self._next_head()
        except HeadTooLong:
            return "431", HEAD_TOO_LONG
        except HeadTooSlow:
            return None
        except BadHead as error:
            logger.info("Bad request from %s: %s", self.client_address, error)
            return error.status[:3], error.response
        if head is None or self._leaves(head):
            return None
        self.server.served += 1
        environ = self.server.own_environ(head, self.client_address)
        if environ is not None:
            environ[READER_KEY] = self.rfile
            return self._exchange(head, environ) or None
        self._request = self._unlogged = head
        return super().handle_one_request()

    def _exchange(self, head: RequestHead, environ: Environ) -> bool:
        exchange, began = Exchange(self.socket, self.rfile, environ, self._size), monotonic()
        try:
            return exchange.run(self.server.application, lambda: self.server.draining)
        finally:
            lines = self.server.access_lines
            if lines is not None and exchange.status:
                lines.answered(head, environ, exchange.status, exchange.headers, exchange.sent, monotonic() - began)

    def _next_head(self) -> RequestHead | None:
        """Return the next request's head, which is still in `rfile`; None at the end of the connection."""
        head, self._head = self._head, None
        if head is not None:
            return head
        with self.server.idling(self.rfile):
            read = self.rfile.fill_head(self.server.keep_alive)
        if read is None:
            return None
        self._size = len(read)
        return parse_head(read)

    def _leaves(self, head: RequestHead) -> bool:
        if not self.server.takes_over(self.socket, self.client_address, head, self.rfile.pending(), self._size):
            return False
        # pywsgi would read what the other must get, and shut the connection down.
        sock, self.socket = self.socket, None
        sock.close()
        return True

    # What pywsgi would read by itself

    def read_requestline(self) -> str:
        self.rfile.read(self._size)
        self.rfile.begin_body()
        head = self._request
        return f"{head.method} {head.target} {head.protocol}"

    def read_request(self, raw_requestline: str) -> Any:
        head = self._request
        self.command, self.path, self.request_version = head.method, head.target, head.protocol
        length = head.fields.get("CONTENT_LENGTH")
        self.content_length = None if length is None else int(length)  # type: ignore[assignment]
        return True

    def get_environ(self) -> Any:
        fields = self._request.fields
        environ = environ_of(self._request, self.client_address, self.server.get_environ())
        environ["SCRIPT_NAME"] = ""
        # As it came: `%2F` in an id is no slash of the path.
        environ["REQUEST_URI"] = self._request.target
        self.server.proxies.apply(environ, self.client_address)
        # A refused WebSocket: what the client sends next may be frames.
        self.close_connection = asks_to_close(environ) or asks_for_upgrade(environ)
        body = Input(
            self.rfile,  # type: ignore[arg-type]
            self.content_length,
            socket=self.socket if fields.get("HTTP_EXPECT", "").lower() == "100-continue" else None,
            chunked_input="HTTP_TRANSFER_ENCODING" in fields,
        )
        environ["wsgi.input"] = self.wsgi_input = RequestBody(self.rfile, body)
        environ["wsgi.input_terminated"] = True
        environ[READER_KEY] = self.rfile
        environ[DETACH_KEY] = []
        return environ

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.close_connection or self.server.draining:
            # Or a proxy would keep the connection for another request.
            headers = [*headers, ("Connection", "close")]
        return super().start_response(status, headers, exc_info)

    def _sendall(self, data: bytes | bytearray) -> None:
        left = memoryview(data)
        while left:
            self.socket.settimeout(SEND_SECONDS)
            try:
                super()._sendall(left[:SEND_BYTES])  # type: ignore[misc]
            except TimeoutError:
                raise ConnectionAbortedError("Its client takes too little of an answer") from None
            finally:
                self.socket.settimeout(None)
            left = left[SEND_BYTES:]

    def process_result(self) -> None:
        takers = (self.environ or {}).get(DETACH_KEY, [])
        headers = {_text(name).lower(): _text(value) for name, value in self.response_headers or ()} if takers else {}
        # A host application may have put another answer in its place.
        if self.code == 200 and headers.get("content-type", "").startswith("text/event-stream"):
            self._detach(takers.pop())
        else:
            super().process_result()

    def _detach(self, take: Callable[[Any, bool], object]) -> None:
        self.write(b"")
        kernel, sock = duplicate(self.socket), self.socket
        self.socket, self.close_connection = None, True
        sock.close()
        take(kernel, self.response_use_chunked)

    def log_request(self) -> None:
        """Tell gunicorn's access log, where somebody wants one."""
        lines, head = self.server.access_lines, self._unlogged
        # What comes after an answer is a head that could not be read, of which nothing is known.
        self._unlogged = None
        if lines is None or head is None or not self.status or self.environ is None:
            return
        status = self.status.decode("latin-1") if isinstance(self.status, bytes) else str(self.status)
        headers = [(_text(name), _text(value)) for name, value in self.response_headers or ()]
        seconds = self.time_finish - self.time_start
        # pywsgi counts the head too.
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), self.response_length)
        sent = 0 if head.method == "HEAD" else min(length, self.response_length)
        lines.answered(head, self.environ, status, headers, sent, seconds)

    def log_error(self, msg: str, *args: object) -> None:
        logger.info(msg, *args)

    def _handle_client_error(self, ex: BaseException) -> tuple[str, bytes]:
        logger.info("Bad request from %s: %r", self.client_address, ex)
        return "400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    def handle_error(self, t: type[BaseException] | None, v: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(v, OSError) and (self.rfile.gone or isinstance(v, ConnectionError)):
            self.close_connection = True
            logger.debug("Connection of %s ended: %s", self.client_address, v)
            if self.headers_sent and not self.response_use_chunked and self.provided_content_length is None:
                # Of HTTP/1.0 a plain end would look like the answer's own.
                with suppress(OSError):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            super().handle_error(t, v, tb)


def _text(part: str | bytes) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else part
