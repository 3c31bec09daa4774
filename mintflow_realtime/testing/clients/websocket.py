"""A test's client by WebSocket, blocking, on a plain socket."""

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, RejectConnection, Request, TextMessage
from wsproto.utilities import ProtocolError

from mintflow_realtime.testing.clients.engine import NotConnected, Packet, patience, target

READ_BYTES = 65536


class WebSocket:
    """A connection by WebSocket, from its start or as the upgrade of the session `opened`."""

    def __init__(
        self,
        url: str,
        path: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        seconds: float,
        opened: dict[str, Any] | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._lock = threading.Lock()
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._part: list[Packet] = []
        self._left = False
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), seconds)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            extra = [(name.encode(), value.encode()) for name, value in headers.items()]
            self._write(Request(host=parts.netloc, target=target(path, "websocket", query), extra_headers=extra))
            waiting: list[Packet] = []
            self._accepted = False
            while not self._accepted:
                waiting += self._read()
            if opened is None:
                while not waiting:
                    waiting += self._read()
                first = waiting.pop(0)
                opened = json.loads(first[1:])
            self._waiting = waiting
            self.opened = opened
            self._socket.settimeout(patience(opened))
        except BaseException:
            self._socket.close()
            raise

    def send(self, packet: Packet) -> None:
        try:
            self._write(TextMessage(packet) if isinstance(packet, str) else BytesMessage(packet))
        except (OSError, ProtocolError) as error:
            raise NotConnected(f"it is closed: {error}") from error

    def receive(self) -> Sequence[Packet]:
        waiting, self._waiting = self._waiting, []
        try:
            return waiting or self._read()
        except (OSError, ProtocolError) as error:
            if isinstance(error, NotConnected):
                raise
            raise NotConnected(f"it ended: {error}") from error

    def say_goodbye(self) -> None:
        with suppress(OSError, ProtocolError):
            self._write(TextMessage("1"))
            self._write(CloseConnection(code=1000))

    def close(self) -> None:
        self.say_goodbye()
        if not self._left:
            with suppress(OSError):
                # Wakes who receives.
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def leave(self) -> "list[socket.socket]":
        self._left = True
        kept = self._socket.dup()
        with suppress(OSError):
            # Wakes who receives; the server hears nothing of it.
            self._socket.shutdown(socket.SHUT_RD)
        return [kept]

    def _write(self, event: Any) -> None:
        with self._lock:
            if self._left:
                raise NotConnected("the network is lost")
            self._socket.sendall(self._protocol.send(event))

    def _read(self) -> list[Packet]:
        """Return the messages of one read, which may be none."""
        read = self._socket.recv(READ_BYTES)
        if self._left:
            raise NotConnected("the network is lost")
        came: list[Packet] = []
        with self._lock:
            self._protocol.receive_data(read or None)
            events = list(self._protocol.events())
        for event in events:
            if isinstance(event, (TextMessage, BytesMessage)):
                self._part.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                if event.message_finished:
                    came.append(self._part[0][:0].join(self._part))  # type: ignore[arg-type]
                    self._part = []
            elif isinstance(event, AcceptConnection):
                self._accepted = True
            elif isinstance(event, RejectConnection):
                raise NotConnected(f"the server answered HTTP {event.status_code}")
            elif isinstance(event, Ping):
                self._write(event.response())
            elif isinstance(event, CloseConnection):
                if came:
                    return came
                raise NotConnected(f"the server closed it: {event.code} {event.reason or ''}".rstrip())
        if not read and not came:
            raise NotConnected("the server closed it")
        return came
