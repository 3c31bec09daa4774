"""The HTTP server of one process: it accepts connections, and takes those that other workers hand over."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
from gevent import socket as gevent_socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from transport import affinity
from transport.affinity import Receiver
from transport.arrival import Arrival
from transport.handler import Handler
from transport.head import HeadReader
from transport.opening import asks_for_websocket, environ_of, kernel_socket
from transport.options import transport_of
from transport.requests import Environ, engine_request

ROOM_SECONDS = 2.0  # how long a connection waits for room in the pool
MAX_ARRIVALS = 1000  # connections that have not sent a whole head yet; the oldest gives way
# Of a peer that is gone without a word: the kernel asks after a minute of silence, and gives up on unanswered data.
KEEPALIVE_SECONDS = 60
USER_TIMEOUT_MS = 45_000

logger = logging.getLogger(__name__)


class Server(WSGIServer):
    """pywsgi's server for an application that carries `transport`; `receives`: it takes handed-over connections.

    Only requests that are not a WebSocket's get a greenlet, in the pool. The receiver outlives `close()`, after which
    live sessions still get their requests, and ends with `stop()`.
    """

    handler_class = Handler
    logger = logger

    def __init__(self, listener: Any, application: Any, *, receives: bool = True, **options: Any) -> None:
        """Take pywsgi's `options` too. Raises `TypeError` for an application without transport options."""
        self.transport = transport_of(application)
        self.receiver: Receiver | None = None
        self._receives = receives and self.transport.affinity_dir is not None
        self._arrivals: dict[Arrival, None] = {}
        self._idle: set[HeadReader] = set()
        self.served = 0
        """How many connections were opened and requests answered here."""
        self._base_environ: Environ = {}
        options["log"] = None
        super().__init__(listener, application, **options)

    def start(self) -> None:
        """Receive first, then accept: a session that another worker could know of is never out of reach."""
        if self._receives and self.receiver is None and self.transport.affinity_dir is not None:
            self.receiver = Receiver(self.transport.affinity_dir, self.transport.node_tag, self.take)
        super().start()

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting and receiving, and end the connections after `timeout` seconds."""
        self.stop_receiving()
        self.end_idle()
        super().stop(timeout)

    @property
    def busy(self) -> bool:
        """Tell whether a request is being answered."""
        return self.pool is not None and len(self.pool) > 0

    @contextmanager
    def idling(self, reader: HeadReader) -> Iterator[None]:
        """Hold a connection that waits for its next request: `end_idle` ends it."""
        self._idle.add(reader)
        try:
            yield
        finally:
            self._idle.discard(reader)

    def end_idle(self) -> None:
        """End the connections that are kept alive without a request, and those that have not sent one yet."""
        for reader in tuple(self._idle):
            reader.give_up()
        for arrival in tuple(self._arrivals):
            arrival.close()

    def stop_receiving(self) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.close()

    # A connection, from its first byte

    def do_read(self) -> Any:
        try:
            descriptor, address = self.socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        return descriptor, address

    def do_handle(self, *args: Any) -> None:
        """Take an accepted connection."""
        descriptor, address = args
        self._arrive(descriptor, address, b"")

    def take(self, descriptor: int, address: Any, read: bytes) -> None:
        """Serve a connection of which another worker has read `read`, a whole head at least."""
        self._arrive(descriptor, address, read)

    def _arrive(self, descriptor: int, address: Any, read: bytes) -> None:
        Arrival(self, kernel_socket(descriptor, self._family), address, read).begin()

    def arrived(self, arrival: Arrival) -> None:
        """Note a connection that waits for its head."""
        if len(self._arrivals) >= MAX_ARRIVALS:
            next(iter(self._arrivals)).close()
        self._arrivals[arrival] = None

    def left(self, arrival: Arrival) -> None:
        self._arrivals.pop(arrival, None)

    def welcome(self, sock: Any, address: Any, read: bytes, end: int) -> None:
        """Serve a connection whose first head, `read[:end]`, is whole."""
        if asks_for_websocket(read[:end]):
            # In a greenlet, since the first one of all waits for Redis.
            self.transport.engine.crew.run(partial(self._open_or_serve, sock, address, read, end))
        else:
            self._serve_http(sock, address, read)

    def _open_or_serve(self, sock: Any, address: Any, read: bytes, end: int) -> None:
        if self.give_away(sock, address, read[:end], read):
            sock.close()
        elif not self.open(sock, address, read[:end], read[end:]):
            self._serve_http(sock, address, read)

    def give_away(self, sock: Any, address: Any, head: bytes, read: bytes) -> bool:
        """Send a connection to the worker that owns the session of `head`; True where it is not ours any more."""
        options = self.transport
        if options.affinity_dir is None:
            return False
        tag = affinity.session_tag(head, options.is_socket_path)
        if tag is None or tag == options.node_tag:
            return False
        try:
            return affinity.send(options.affinity_dir, tag, sock.fileno(), address, read)
        except (affinity.WorkerBusy, OSError) as error:
            # Closing is safe, answering is not: "session unknown" would end a session that lives.
            logger.warning("A connection for worker %s was closed: %r", tag, error)
            return True

    def open(self, sock: Any, address: Any, head: bytes, behind: bytes) -> bool:
        """Open a WebSocket where path, origin, version, key and session allow it, and take `sock` over."""
        options = self.transport
        environ = environ_of(head, address, self._texts())
        if (
            environ is None
            or "CONTENT_LENGTH" in environ
            or not options.is_socket_path(environ["PATH_INFO"])
            or engine_request(environ).transport != "websocket"
            or options.engine.refusal(environ) is not None
        ):
            return False
        self.served += 1
        options.engine.open_websocket(environ, sock, behind)
        return True

    def engine_environ(self, head: bytes, address: Any) -> Environ | None:
        """Return the environ of an Engine.IO request over HTTP; None for any other, and for pywsgi to judge."""
        target = head[: head.find(b"\n")].split(b" ")[1:2]
        if not target or not self.transport.is_socket_path(target[0].partition(b"?")[0].decode("latin-1")):
            return None
        return environ_of(head, address, self.environ)

    def _serve_http(self, sock: Any, address: Any, read: bytes) -> None:
        if self.pool is None:
            gevent.spawn(self._serve, sock, address, read)
        elif not self.pool.full():
            self.pool.spawn(self._serve, sock, address, read)
        else:
            gevent.spawn(self._serve_when_there_is_room, self.pool, sock, address, read)

    def _serve_when_there_is_room(self, pool: Pool, sock: Any, address: Any, read: bytes) -> None:
        if pool.wait_available(timeout=ROOM_SECONDS):
            pool.spawn(self._serve, sock, address, read)
        else:
            logger.warning("A connection was closed: %d are open", pool.size)
            sock.close()

    def _serve(self, kernel: Any, address: Any, read: bytes) -> None:
        sock = gevent_socket.socket(kernel.family, kernel.type, kernel.proto, fileno=kernel.detach())
        try:
            Handler(sock, address, self, read).handle()
        finally:
            sock.close()

    # What pywsgi asks of it

    def init_socket(self) -> None:
        super().init_socket()
        # What is handed over after the listening socket is closed has it too.
        self._family = self.socket.family
        # Accepted sockets inherit these: three system calls less a connection.
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
        ):
            if self.socket.family != socket.AF_UNIX:
                self.socket.setsockopt(level, option, value)

    def update_environ(self) -> None:
        # pywsgi asks DNS for the name of the listening address, which can block the start.
        if isinstance(self.address, tuple):
            self.environ.setdefault("SERVER_NAME", str(self.address[0]))
        super().update_environ()

    def _texts(self) -> Environ:
        """The texts of every request's environ."""
        if not self._base_environ:
            self._base_environ = {name: value for name, value in self.environ.items() if isinstance(value, str)}
        return self._base_environ
