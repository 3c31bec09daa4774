"""One process without gunicorn, for `python server.py`: the same server and handler."""

import signal
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool

from mintflow_realtime.transport.worker.drain import drain
from mintflow_realtime.transport.worker.options import transport_of
from mintflow_realtime.transport.worker.server import Server

BACKLOG = 2048  # gunicorn's
DRAIN_SPARE_SECONDS = 10  # for disconnect handlers and requests
SPARE_CONNECTIONS = 1000  # HTTP requests beside the sessions


def serve(application: Any, host: str, port: int) -> None:
    """Serve `application` until SIGTERM or SIGINT. The process must be monkey-patched before anything is imported."""
    connections = transport_of(application).engine.max_connections + SPARE_CONNECTIONS
    server = Server(listen(host, port), application, spawn=Pool(connections))
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stopping.set)
    server.start()
    stopping.wait()
    options = transport_of(application)
    drain([server], options.engine, options.drain_seconds, options.drain_seconds + DRAIN_SPARE_SECONDS)
    options.closing()
    server.stop(timeout=0)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket, without Nagle's delay: a head and its body are two writes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if family == socket.AF_INET6:
        # All addresses are those of IPv4 too, whatever the kernel's default is.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((host, port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
