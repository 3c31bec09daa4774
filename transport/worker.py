"""The gunicorn worker: `worker_class = "transport.worker.Worker"`."""

import gc
import os
import signal
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from gunicorn.workers.ggevent import VERSION, base_environ

from transport.drain import drain
from transport.handler import Handler
from transport.listener import Server
from transport.options import TransportOptions, transport_of

__all__ = ["TransportOptions", "Worker"]

# How often the master is told that this worker lives, and the limit of requests is looked at.
TICK_SECONDS = 0.25
# What is left of gunicorn's graceful_timeout when a drain must be over: for closing Redis, and for leaving.
SPARE_SECONDS = 2.0


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with our server and handler, which drains before it ends.

    It ends on SIGTERM, which a HUP of the master sends too, where the master is gone, and after `max_requests` requests
    and connections. What can't work stops gunicorn at the start.
    """

    alive: bool
    wsgi_handler = Handler
    server_class = Server

    def init_process(self) -> None:
        if self.cfg.is_ssl:
            raise RuntimeError("certfile and keyfile are not supported: TLS ends at nginx.")
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        transport_of(self.wsgi)

    def run(self) -> None:
        """Serve until told to stop, then drain within gunicorn's `graceful_timeout`."""
        servers = [self._serve(listener, first=not number) for number, listener in enumerate(self.sockets)]
        options = transport_of(self.wsgi)
        gevent.spawn(options.opening)
        # What was loaded lives as long as the process: a full collection need not look at it again each time.
        gc.collect()
        gc.freeze()
        told = Event()
        # Python's own handlers run 0.3 s late under gevent. Of two workers that are told to stop, one would take the
        # other's clients meanwhile, and close them a second time.
        signalled = gevent.signal_handler(signal.SIGTERM, told.set)
        try:
            while self.alive and not told.is_set():
                self.notify()
                told.wait(TICK_SECONDS)
                if sum(server.served for server in servers) >= self.max_requests:
                    self.log.info("Recycling after %s requests and connections", self.max_requests)
                    break
            within = max(0.0, self.cfg.graceful_timeout - SPARE_SECONDS)
            drain(servers, options.engine, options.drain_seconds, within, self.notify)
            options.closing()
        finally:
            signalled.cancel()
            for server in servers:
                server.stop(timeout=0)

    def notify(self) -> None:
        """Tell the master that this worker lives; drain where there is no master any more, as when told to stop."""
        if self.ppid == os.getppid():
            super().notify()
        elif self.alive:
            self.log.info("The master is gone: draining")
            self.alive = False

    def _serve(self, listener: Any, *, first: bool) -> Server:
        """Serve one bound address; the first takes what other workers hand over."""
        listener.setblocking(1)
        environ = base_environ(self.cfg) | {"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION}
        server = Server(listener, self.wsgi, receives=first, spawn=Pool(self.worker_connections), environ=environ)
        server.start()
        return server
