"""The server of one worker: HTTP, the WebSockets that it opens, and the connections that other workers hand over."""

import logging
from functools import partial
from typing import Any
from urllib.parse import unquote

from mintflow_realtime.transport.engine_io.request import engine_request
from mintflow_realtime.transport.http.environ import Environ, environ_of
from mintflow_realtime.transport.http.request_head import RequestHead
from mintflow_realtime.transport.http.server import HttpServer
from mintflow_realtime.transport.loop.kernel_socket import duplicate
from mintflow_realtime.transport.worker import affinity
from mintflow_realtime.transport.worker.affinity import Receiver
from mintflow_realtime.transport.worker.options import transport_of

# What a body has that pywsgi reads for us.
_FOR_PYWSGI = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_TRAILER"})

logger = logging.getLogger(__name__)


class Server(HttpServer):
    """Serves an application that carries `transport`; `receives`: it takes handed-over connections.

    The receiver outlives `close()`, after which live sessions still get their requests, and ends with `stop()`.
    """

    def __init__(self, listener: Any, application: Any, *, receives: bool = True, **options: Any) -> None:
        """Take pywsgi's `options` too. Raises `TypeError` for an application without transport options."""
        self.transport = transport_of(application)
        self.receiver: Receiver | None = None
        self._receives = receives and self.transport.affinity_dir is not None
        self._told_of_old_protocol = False
        engine = self.transport.engine
        super().__init__(listener, application, poller=engine.poller, timers=engine.timers, **options)

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

    @property
    def draining(self) -> bool:
        return self.transport.engine.draining

    # What a connection turns into

    def head_arrived(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        if head.asks_for_websocket:
            # In a greenlet, since the first one of all waits for Redis.
            self.transport.engine.greenlets.run(partial(self._open_or_serve, sock, address, head, read, end))
        else:
            self.serve_http(sock, address, head, read, end)

    def _open_or_serve(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> None:
        if self.give_away(sock, address, head, read):
            sock.close()
        elif not self.open(sock, address, head, read[end:]):
            self.serve_http(sock, address, head, read, end)

    def takes_over(self, sock: Any, address: Any, head: RequestHead, read: bytes, end: int) -> bool:
        if self.give_away(sock, address, head, read):
            return True
        if not head.asks_for_websocket:
            return False
        kernel = duplicate(sock)
        if self.open(kernel, address, head, read[end:]):
            return True
        kernel.close()
        return False

    def give_away(self, sock: Any, address: Any, head: RequestHead, read: bytes) -> bool:
        """Send a connection to the worker that owns the session of `head`; True where it is not ours any more."""
        options = self.transport
        if options.affinity_dir is None:
            return False
        tag = affinity.session_tag(head.target, options.is_socket_path)
        if tag is None or tag == options.node_tag:
            return False
        try:
            return affinity.send(options.affinity_dir, tag, sock.fileno(), address, read)
        except (affinity.WorkerBusy, OSError) as error:
            # Closing is safe, answering is not: "session unknown" would end a session that lives.
            logger.warning("A connection for worker %s was closed: %r", tag, error)
            return True

    def open(self, sock: Any, address: Any, head: RequestHead, behind: bytes) -> bool:
        """Open a WebSocket where path, origin, version, key and session allow it, and take `sock` over."""
        options = self.transport
        if not options.is_socket_path(unquote(head.path, "latin-1")):
            return False
        environ = environ_of(head, address, self.base_environ())
        self.proxies.apply(environ, address)
        if engine_request(environ).transport != "websocket" or options.engine.refusal(environ) is not None:
            return False
        if head.protocol == "HTTP/1.0":
            self._tell_of_old_protocol()
        self.served += 1
        lines = self.access_lines
        ended = None if lines is None else lines.websocket(head, environ)
        options.engine.open_websocket(environ, sock, behind, ended)
        return True

    def _tell_of_old_protocol(self) -> None:
        if not self._told_of_old_protocol:
            self._told_of_old_protocol = True
            logger.warning("A proxy asks for WebSockets over HTTP/1.0: with nginx, set proxy_http_version 1.1")

    def own_environ(self, head: RequestHead, address: Any) -> Environ | None:
        """Return the environ of an Engine.IO request with a plain body, or none; None for any other."""
        plain = head.protocol == "HTTP/1.1" and not _FOR_PYWSGI & head.fields.keys()
        if not plain or not self.transport.is_socket_path(unquote(head.path, "latin-1")):
            return None
        environ = environ_of(head, address, self.environ)
        self.proxies.apply(environ, address)
        return environ
