"""What a worker does from its start to its end: it serves the addresses that gunicorn bound, then drains."""

import gc
import signal
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gunicorn.workers.ggevent import VERSION, base_environ

from mintflow_realtime.transport.http.access_lines import lines_of
from mintflow_realtime.transport.http.forwarded import TrustedProxies
from mintflow_realtime.transport.worker import standing
from mintflow_realtime.transport.worker.drain import drain
from mintflow_realtime.transport.worker.options import TransportOptions, transport_of
from mintflow_realtime.transport.worker.server import Server

# How often the master is told that this worker lives, and the limit of requests is looked at.
TICK_SECONDS = 0.25
# What is left of gunicorn's graceful_timeout when a drain must be over: for closing Redis, and for leaving.
SPARE_SECONDS = 2.0
# A worker that can't admit clients after this long doesn't take the place of one that can.
READY_SECONDS = 10.0


def serve(worker: Any) -> None:
    """Serve until `worker` is told to stop, then drain within gunicorn's `graceful_timeout`."""
    options = transport_of(worker.wsgi)
    if not worker.alive:
        return  # told so while it loaded
    if worker.succeeds:
        _wait_until_ready(worker, options)
    servers = [_started(worker, listener, first=not number) for number, listener in enumerate(worker.sockets)]
    # Before anybody is answered.
    worker.tell(standing.SERVES)
    gevent.spawn(options.opening)
    # What was loaded lives as long as the process: a full collection need not look at it again each time.
    gc.collect()
    gc.freeze()
    told = Event()
    # Python's own handlers run 0.3 s late under gevent. Of two workers that are told to stop, one would take the
    # other's clients meanwhile, and close them a second time.
    signalled = gevent.signal_handler(signal.SIGTERM, told.set)
    recycling = False
    try:
        while worker.alive and not told.is_set():
            worker.notify()
            told.wait(TICK_SECONDS)
            if not recycling and sum(server.served for server in servers) >= worker.max_requests:
                recycling = True
                worker.log.info("Recycling after %s requests and connections", worker.max_requests)
                if worker.succession is None:
                    break
                worker.tell(standing.WANTS_TO_GO)
        within = max(0.0, worker.cfg.graceful_timeout - SPARE_SECONDS)
        drain(servers, options.engine, options.drain_seconds, within, worker.notify)
        options.closing()
    finally:
        signalled.cancel()
        for server in servers:
            server.stop(timeout=0)


def _wait_until_ready(worker: Any, options: TransportOptions) -> None:
    """Wait for what the application needs to admit clients, so that those of others lose nothing by coming here."""
    end = monotonic() + READY_SECONDS
    while worker.alive:
        asked = gevent.spawn(options.engine.accepting)
        while not asked.ready():
            worker.notify()
            asked.join(TICK_SECONDS)
        if asked.get():
            return
        if monotonic() > end:
            worker.end_boot(f"This worker hears nothing from Redis within {READY_SECONDS:g} s, so it takes no clients.")
        gevent.sleep(TICK_SECONDS)


def _started(worker: Any, listener: Any, *, first: bool) -> Server:
    """Serve one bound address; the first takes what other workers hand over."""
    listener.setblocking(1)
    environ = base_environ(worker.cfg) | {"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION}
    server = Server(
        listener,
        worker.wsgi,
        receives=first,
        spawn=Pool(worker.worker_connections),
        environ=environ,
        keep_alive=worker.cfg.keepalive,
        proxies=TrustedProxies(worker.cfg.forwarded_allow_ips),
        access_lines=lines_of(worker.log),
    )
    server.start()
    return server
