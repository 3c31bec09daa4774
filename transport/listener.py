"""The HTTP server of one process: it accepts connections, and takes those that other workers hand over."""

import logging
from typing import Any

import gevent
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIServer

from transport.affinity import Receiver
from transport.handler import Handler
from transport.options import transport_of

ROOM_SECONDS = 2.0  # how long a handed-over connection waits for room in the pool


class Server(WSGIServer):
    """pywsgi's server for an application that carries `transport`; `receives`: it takes handed-over connections.

    Those count in its pool like accepted ones. The receiver outlives `close()`, after which live sessions still get
    their requests, and ends with `stop()`.
    """

    handler_class = Handler
    logger = logging.getLogger(__name__)

    def __init__(self, listener: Any, application: Any, *, receives: bool = True, **options: Any) -> None:
        """Take pywsgi's `options` too. Raises `TypeError` for an application without transport options."""
        self.transport = transport_of(application)
        self.receiver: Receiver | None = None
        self._receives = receives and self.transport.affinity_dir is not None
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
        super().stop(timeout)

    def stop_receiving(self) -> None:
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.close()

    def take(self, descriptor: int, address: Any, read: bytes) -> None:
        """Serve a connection of which another worker has read `read`. Without room in the pool it is closed."""
        sock = gevent_socket.socket(fileno=descriptor)
        if self.pool is None:
            gevent.spawn(self._serve, sock, address, read)
        elif self.pool.wait_available(timeout=ROOM_SECONDS):
            self.pool.spawn(self._serve, sock, address, read)
        else:
            self.logger.warning("A handed-over connection was closed: %d are open", self.pool.size)
            sock.close()

    def handle(self, sock: Any, address: Any) -> None:
        self._serve(sock, address, b"")

    def update_environ(self) -> None:
        # pywsgi asks DNS for the name of the listening address, which can block the start.
        if isinstance(self.address, tuple):
            self.environ.setdefault("SERVER_NAME", str(self.address[0]))
        super().update_environ()

    def _serve(self, sock: Any, address: Any, read: bytes) -> None:
        try:
            Handler(sock, address, self, read).handle()
        finally:
            sock.close()
