"""An HTTP server that accepts connections, reads a first head of each without a greenlet, and answers requests.

What a connection turns into is its subclass's to say: `head_arrived`, `takes_over`, `own_environ`.
"""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent import socket as gevent_socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from mintflow_realtime.transport.http.access_lines import AccessLines
from mintflow_realtime.transport.http.environ import Environ
from mintflow_realtime.transport.http.forwarded import TrustedProxies
from mintflow_realtime.transport.http.handler import Handler
from mintflow_realtime.transport.http.head_reader import IDLE_SECONDS, HeadReader
from mintflow_realtime.transport.http.pending import PendingConnection
from mintflow_realtime.transport.http.request_head import RequestHead
from mintflow_realtime.transport.loop.kernel_socket import kernel_socket
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel

ROOM_SECONDS = 2.0  # how long a connection waits for room in the pool
MAX_PENDING = 1000  # connections that have not sent a whole head yet; the oldest gives way
# Of a peer that is gone without a word: the kernel asks after a minute of silence, and gives up on unanswered data.
KEEPALIVE_SECONDS = 60
USER_TIMEOUT_MS = 45_000

logger = logging.getLogger(__name__)


class HttpServer(WSGIServer):
    """pywsgi's server. Only a connection that has sent a whole head gets a greenlet, in the pool."""

    handler_class = Handler
    logger = logger

    def __init__(
        self,
        listener: Any,
        application: Any,
        *,
        poller: Poller,
        timers: TimerWheel,
        keep_alive: float = IDLE_SECONDS,
        proxies: TrustedProxies | None = None,
        access_lines: AccessLines | None = None,
        **options: Any,
    ) -> None:
        """Take pywsgi's `options` too. `keep_alive`: how many seconds a connection may wait for its next request."""
        self.poller, self.timers = poller, timers
        self.keep_alive = keep_alive
        self.proxies = proxies or TrustedProxies()
        self.access_lines = access_lines
        self._pending: dict[PendingConnection, None] = {}
        # The one that waits longest comes first.
        self._idle: dict[HeadReader, None] = {}
        self.served = 0
        """How many connections were opened and requests answered here."""
        self._base_environ: Environ = {}
        options["log"] = None
        super().__init__(listener, application, **options)

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting, and end the connections after `timeout` seconds."""
        self.end_idle()
        super().stop(timeout)

    @property
    def busy(self) -> bool:
        """Tell whether a request is being answered."""
        return self.pool is not None and len(self.pool) > 0

    @contextmanager
    def idling(self, reader: HeadReader) -> Iterator[None]:
        """Note a connection that waits for its next request: `end_idle` ends it."""
        self._idle[reader] = None
        try:
            yield
        finally:
            self._idle.pop(reader, None)

    def end_idle(self, patience: float = 0.0) -> None:
        """End the connections that are kept alive without a request, and those that have not sent one yet.

        Who was accepted less than `patience` seconds ago is about to send one.
        """
        for reader in tuple(self._idle):
            reader.give_up()
        latest = monotonic() - patience
        for pending in tuple(self._pending):
            if pending.began <= latest:
                pending.close()

    # A connection, from its first byte

    def set_spawn(self, spawn: Any) -> None:
        super().set_spawn(spawn)
        # The library asks the pool alone, and accepts nobody while it is full.
        self.full = self._is_full  # type: ignore[method-assign]

    def _is_full(self) -> bool:
        """Tell whether no further connection is accepted for now; one that only waits gives way to it."""
        if self.pool is None or not self.pool.full():
            return False
        self._make_room()
        return True

    def do_read(self) -> Any:
        try:
            descriptor, address = self.socket._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        return descriptor, plain(address)

    def do_handle(self, *args: Any) -> None:
        """Take an accepted connection."""
        descriptor, address = args
        self.take(descriptor, address, b"")

    def take(self, descriptor: int, address: Any, read: bytes) -> None:
        """Serve a connection of which `read` has been read already, by whomever."""
        PendingConnection(self, kernel_socket(descriptor, self._family), address, read).begin()

    def pending_began(self, pending: PendingConnection) -> None:
        """Note a connection that waits for its head; the oldest gives way where there are too many."""
        if len(self._pending) >= MAX_PENDING:
            next(iter(self._pending)).close()
        self._pending[pending] = None

    def pending_ended(self, pending: PendingConnection) -> None:
        self._pending.pop(pending, None)

    # What a subclass decides

    @property
    def draining(self) -> bool:
        """Tell whether connections must end with the request that they are at."""
        return False

    def head_arrived(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        """Serve a connection whose first head, `read[:end]`, is whole and valid. Runs in the hub."""
        self.serve_http(sock, address, head, read, end)

    def takes_over(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> bool:
        """Tell whether somebody else goes on with gevent's socket `sock`, from a later request of the connection on."""
        return False

    def own_environ(self, head: RequestHead, address: Any) -> Environ | None:
        """Return the environ of a request that is answered without pywsgi; None for all others."""
        return None

    # HTTP in a greenlet

    def serve_http(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        """Answer the requests of a connection in a greenlet, when there is room for one."""
        serve = partial(self._serve, sock, address, head, read, end)
        if self.pool is None:
            gevent.spawn(serve)
        elif not self.pool.full():
            self.pool.spawn(serve)
        else:
            self._make_room()
            gevent.spawn(self._serve_when_there_is_room, self.pool, sock, serve)

    def _make_room(self) -> None:
        """Let the connection that has waited longest for its next request give way to one that has one."""
        for reader in self._idle:
            del self._idle[reader]
            reader.give_up()
            return

    def _serve_when_there_is_room(self, pool: Pool, sock: Any, serve: Callable[[], None]) -> None:
        if pool.wait_available(timeout=ROOM_SECONDS):
            pool.spawn(serve)
        else:
            logger.warning("A connection was closed: %d are open", pool.size)
            sock.close()

    def _serve(self, kernel: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        sock = gevent_socket.socket(kernel.family, kernel.type, kernel.proto, fileno=kernel.detach())
        try:
            Handler(sock, address, self, read, head, end).handle()
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

    def base_environ(self) -> Environ:
        """Return the texts of every request's environ."""
        if not self._base_environ:
            self._base_environ = {name: value for name, value in self.environ.items() if isinstance(value, str)}
        return self._base_environ


def plain(address: Any) -> Any:
    """Return a peer's address, of IPv4 as such where a socket of both families says ::ffff:192.0.2.1."""
    if isinstance(address, tuple) and address[0].startswith("::ffff:") and "." in address[0]:
        return address[0].removeprefix("::ffff:"), address[1]
    return address
