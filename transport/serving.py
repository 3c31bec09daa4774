"""What a worker does from its start to its end: it serves the addresses that gunicorn bound, then drains."""

import gc
import signal
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gunicorn.workers.ggevent import VERSION, base_environ

from transport.drain import drain
from transport.listener import Server
from transport.options import transport_of

# How often the master is told that this worker lives, and the limit of requests is looked at.
TICK_SECONDS = 0.25
# What is left of gunicorn's graceful_timeout when a drain must be over: for closing Redis, and for leaving.
SPARE_SECONDS = 2.0


def serve(worker: Any) -> None:
    """Serve until `worker` is told to stop, then drain within gunicorn's `graceful_timeout`."""
    options = transport_of(worker.wsgi)
    servers = [_started(worker, listener, first=not number) for number, listener in enumerate(worker.sockets)]
    gevent.spawn(options.opening)
    # What was loaded lives as long as the process: a full collection need not look at it again each time.
    gc.collect()
    gc.freeze()
    told = Event()
    # Python's own handlers run 0.3 s late under gevent. Of two workers that are told to stop, one would take the
    # other's clients meanwhile, and close them a second time.
    signalled = gevent.signal_handler(signal.SIGTERM, told.set)
    try:
        while worker.alive and not told.is_set():
            worker.notify()
            told.wait(TICK_SECONDS)
            if sum(server.served for server in servers) >= worker.max_requests:
                worker.log.info("Recycling after %s requests and connections", worker.max_requests)
                break
        within = max(0.0, worker.cfg.graceful_timeout - SPARE_SECONDS)
        drain(servers, options.engine, options.drain_seconds, within, worker.notify)
        options.closing()
    finally:
        signalled.cancel()
        for server in servers:
            server.stop(timeout=0)


def _started(worker: Any, listener: Any, *, first: bool) -> Server:
    """Serve one bound address; the first takes what other workers hand over."""
    listener.setblocking(1)
    environ = base_environ(worker.cfg) | {"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION}
    server = Server(listener, worker.wsgi, receives=first, spawn=Pool(worker.worker_connections), environ=environ)
    server.start()
    return server
