"""The gunicorn worker: `worker_class = "transport.worker.Worker"`."""

from typing import Any

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker

from transport.handler import Handler
from transport.listener import Server
from transport.options import TransportOptions, transport_of

__all__ = ["TransportOptions", "Worker"]


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with our server and handler. What can't work stops gunicorn at the start."""

    wsgi_handler = Handler

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.servers: list[Server] = []

    def init_process(self) -> None:
        if self.cfg.is_ssl:
            raise RuntimeError("certfile and keyfile are not supported: TLS ends at nginx.")
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        transport_of(self.wsgi)

    def server_class(self, listener: Any, **options: Any) -> Server:
        """Make the server of one bound address; the first takes what other workers hand over."""
        server = Server(listener, receives=not self.servers, **options)
        self.servers.append(server)
        return server

    def run(self) -> None:
        try:
            super().run()
        finally:
            for server in self.servers:
                server.stop_receiving()
