"""One HTTP connection in its greenlet: each head is looked at before anything else is done about it.

Overrides private methods of gevent's pywsgi 26.9.0.
"""

import logging
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gevent.pywsgi import Input, WSGIHandler, _InvalidClientInput  # type: ignore[attr-defined]

from transport.arrival import HEAD_TOO_LONG
from transport.exchange import DISCARD_BYTES, DISCARD_SECONDS, Exchange
from transport.head import BODY_SECONDS, READER_KEY, HeadReader, HeadTooLong, HeadTooSlow
from transport.opening import asks_for_websocket, duplicate
from transport.requests import asks_for_upgrade

if TYPE_CHECKING:
    from transport.listener import Server

logger = logging.getLogger(__name__)


class RequestBody(Input):
    """pywsgi's body, of which at most `DISCARD_BYTES` are read for nothing. What is left over ends the connection."""

    __slots__ = ("_reader",)
    _chunked_input_error: bool

    def __init__(self, reader: HeadReader, body: Input) -> None:
        super().__init__(reader, body.content_length, body.socket, body.chunked_input)  # type: ignore[arg-type]
        self._reader = reader

    def _discard(self) -> None:
        if self._chunked_input_error or self._reader.gone:
            raise _InvalidClientInput("The body ended early")
        unread = self.chunked_input and self.chunk_length != 0 or self.position < (self.content_length or 0)
        if not unread:
            return
        if self.socket is not None:
            raise _InvalidClientInput("The body was not asked for")
        deadline = monotonic() + DISCARD_SECONDS
        self._reader.timeout = DISCARD_SECONDS
        left = DISCARD_BYTES
        while left > 0 and monotonic() < deadline:
            read = self.read(16_384)
            if not read:
                self._reader.timeout = BODY_SECONDS
                return
            left -= len(read)
        raise _InvalidClientInput("The body is too long to be read for nothing")


class Handler(WSGIHandler):
    """pywsgi's handler over a `HeadReader`; `start` are bytes read from `sock` already."""

    server: "Server"
    rfile: HeadReader  # type: ignore[assignment]
    wsgi_input: RequestBody
    socket: Any

    def __init__(self, sock: Any, address: Any, server: "Server", start: bytes = b"") -> None:
        super().__init__(sock, address, server, rfile=HeadReader(sock, start))  # type: ignore[call-arg]

    def handle(self) -> None:
        """Serve the connection's requests until it ends or leaves: to another worker, or as a WebSocket."""
        try:
            super().handle()
        except OSError as error:
            logger.debug("Connection of %s ended: %s", self.client_address, error)

    def handle_one_request(self) -> Any:
        """Read one head, and answer its request or let the connection go; see pywsgi for what is returned."""
        try:
            with self.server.idling(self.rfile):
                head = self.rfile.fill_head()
        except HeadTooLong:
            return "431", HEAD_TOO_LONG
        except HeadTooSlow:
            return None
        if head is None or self._leaves(head):
            return None
        self.server.served += 1
        environ = self.server.engine_environ(head, self.client_address)
        if environ is not None:
            environ[READER_KEY] = self.rfile
            exchange = Exchange(self.socket, self.rfile, environ, len(head))
            return exchange.run(self.server.application, lambda: self.server.transport.engine.draining) or None
        return super().handle_one_request()

    def _leaves(self, head: bytes) -> bool:
        read = self.rfile.pending()
        if self.server.give_away(self.socket, self.client_address, head, read):
            # pywsgi would read what the other worker must get, and shut the connection down.
            sock, self.socket = self.socket, None
            sock.close()
            return True
        if not asks_for_websocket(head):
            return False
        kernel = duplicate(self.socket)
        if not self.server.open(kernel, self.client_address, head, read[len(head) :]):
            kernel.close()
            return False
        sock, self.socket = self.socket, None
        sock.close()
        return True

    def get_environ(self) -> Any:
        environ = super().get_environ()
        self.wsgi_input = RequestBody(self.rfile, self.wsgi_input)
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        environ[READER_KEY] = self.rfile
        if asks_for_upgrade(environ):
            # A refused one: what the client sends next may be frames.
            self.close_connection = True
        return environ

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.close_connection or self.server.transport.engine.draining:
            # Or a proxy would keep the connection for another request.
            headers = [*headers, ("Connection", "close")]
        return super().start_response(status, headers, exc_info)

    def log_request(self) -> None:
        """Log nothing: the access log is nginx's."""

    def log_error(self, msg: str, *args: object) -> None:
        logger.info(msg, *args)

    def _handle_client_error(self, ex: BaseException) -> tuple[str, bytes]:
        logger.info("Bad request from %s: %r", self.client_address, ex)
        return "400", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    def handle_error(self, t: type[BaseException] | None, v: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(v, OSError) and (self.rfile.gone or isinstance(v, ConnectionError)):
            self.close_connection = True
            logger.debug("Connection of %s ended: %s", self.client_address, v)
        else:
            super().handle_error(t, v, tb)
