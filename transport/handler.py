"""One HTTP connection: its heads are looked at before anything else, and a WebSocket is opened only where it may be.

Overrides private methods of gevent's pywsgi 26.9.0 and gevent-websocket 0.10.1.
"""

import logging
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gevent.pywsgi import Input, WSGIHandler, _InvalidClientInput  # type: ignore[attr-defined]
from geventwebsocket.handler import WebSocketHandler

from transport import affinity
from transport.head import READER_KEY, HeadReader, HeadTooLong, HeadTooSlow
from transport.requests import asks_for_upgrade, engine_request

if TYPE_CHECKING:
    from transport.listener import Server

logger = logging.getLogger(__name__)

DISCARD_BYTES = 4_194_304  # of a body that nobody read, so that its sender reads our answer before a reset
DISCARD_SECONDS = 2.0
_HEAD_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


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
                return
            left -= len(read)
        raise _InvalidClientInput("The body is too long to be read for nothing")


class Handler(WebSocketHandler):  # type: ignore[misc]
    """pywsgi's and geventwebsocket's handler over a `HeadReader`; `start` are bytes read from `sock` already."""

    server: "Server"
    rfile: HeadReader
    wsgi_input: RequestBody
    socket: Any
    websocket: Any
    _upgrade_refused = False

    def __init__(self, sock: Any, address: Any, server: "Server", start: bytes = b"") -> None:
        super().__init__(sock, address, server, rfile=HeadReader(sock, start))

    def handle(self) -> None:
        """Serve the connection's requests until it ends or is given to another worker."""
        try:
            super().handle()
        except OSError as error:
            logger.debug("Connection of %s ended: %s", self.client_address, error)

    def handle_one_request(self) -> Any:
        """Read one head, and answer its request or give the connection away; see pywsgi for what is returned."""
        try:
            head = self.rfile.fill_head()
        except HeadTooLong:
            return "431", _HEAD_TOO_LONG
        except HeadTooSlow:
            return None
        if head is None or self._is_given_away(head):
            return None
        return super().handle_one_request()

    def _is_given_away(self, head: bytes) -> bool:
        options = self.server.transport
        if options.affinity_dir is None:
            return False
        tag = affinity.session_tag(head, options.is_socket_path)
        if tag is None or tag == options.node_tag:
            return False
        try:
            given = affinity.send(
                options.affinity_dir, tag, self.socket.fileno(), self.client_address, self.rfile.pending()
            )
        except (affinity.WorkerBusy, OSError) as error:
            # Closing is safe, answering is not: "session unknown" would end a session that lives.
            logger.warning("A connection for worker %s was closed: %r", tag, error)
            given = True
        if given:
            # pywsgi would read what the other worker must get, and shut the connection down.
            sock, self.socket = self.socket, None
            sock.close()
        return given

    def get_environ(self) -> Any:
        environ = super().get_environ()
        self.wsgi_input = RequestBody(self.rfile, self.wsgi_input)
        # Also where an upgrade was asked for: one that is refused is an ordinary request.
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        environ[READER_KEY] = self.rfile
        return environ

    def run_application(self) -> None:
        """Open a WebSocket where the path, the origin and the session allow it; else answer an ordinary request."""
        asked = asks_for_upgrade(self.environ)
        self._upgrade_refused = asked and not self._may_upgrade()
        if asked and not self._upgrade_refused:
            self.rfile.timeout = None
            super().run_application()
        else:
            WSGIHandler.run_application(self)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self._upgrade_refused:
            headers = [*headers, ("Connection", "close")]
        return super().start_response(status, headers, exc_info)

    def _may_upgrade(self) -> bool:
        options = self.server.transport
        return (
            options.is_socket_path(self.environ["PATH_INFO"])
            and engine_request(self.environ).transport == "websocket"
            and options.engine.refusal(self.environ) is None
        )

    def run_websocket(self) -> None:
        """Run the application on an open WebSocket, whose table of clients by address we don't keep."""
        try:
            list(self.application(self.environ, lambda status, headers, exc_info=None: []))
        finally:
            if not self.websocket.closed:
                self.websocket.close()
            self.environ["wsgi.websocket"] = None
            self.websocket = None

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
