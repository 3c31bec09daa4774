"""The address of INTERNAL_BIND: one worker of the host serves it for all, and when that one ends, another."""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from gevent.pool import Pool

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.transport.http.server import HttpServer
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel

# How soon another worker serves after the one before has ended.
TAKE_OVER_SECONDS = 0.5
MAX_REQUESTS = 16
LOCK = "internal.lock"

_log = logging.getLogger("mintflow.metrics")


class InternalServer:
    """Serves `application` at `address`, while this worker holds the lock in `directory`."""

    def __init__(self, address: tuple[str, int], directory: str, application: Any) -> None:
        self._address, self._directory, self._application = address, Path(directory), application
        self._lock: int | None = None
        self._server: HttpServer | None = None
        self._loop: gevent.Greenlet[..., None] | None = None
        self._told = False

    def start(self) -> None:
        """Serve as soon as nobody else does."""
        self._loop = start_loop("the internal server", self._take, TAKE_OVER_SECONDS)

    def close(self) -> None:
        """Leave the address to another worker."""
        if self._loop is not None:
            self._loop.kill()
        if self._server is not None:
            self._server.stop(timeout=0)
        if self._lock is not None:
            os.close(self._lock)
        self._loop = self._server = self._lock = None

    def _take(self) -> None:
        if self._server is not None or not self._locked():
            return
        try:
            listener = _listen(*self._address)
        except OSError as error:
            if not self._told:
                self._told = True
                host, port = self._address
                _log.error("INTERNAL_BIND: nothing can listen on %s port %d: %s", host, port, error.strerror or error)
            return
        # With a poller of its own: a drain waits for everything that is in the sockets'.
        server = HttpServer(listener, self._application, poller=Poller(), timers=TimerWheel(), spawn=Pool(MAX_REQUESTS))
        server.start()
        self._server = server

    def _locked(self) -> bool:
        if self._lock is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._lock = descriptor
        return True


def _listen(host: str, port: int) -> Any:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # The connections of the worker before may linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
