"""A test's client by HTTP polling, blocking; it upgrades to WebSocket where it is asked to."""

import base64
import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from mintflow_realtime.testing.clients.engine import NotConnected, Packet, patience, target
from mintflow_realtime.testing.clients.websocket import WebSocket

_RECORD = "\x1e"


class Polling:
    """A connection by HTTP: one request at a time waits for packets, another sends them."""

    def __init__(
        self, url: str, path: str, headers: Mapping[str, str], query: Mapping[str, str], seconds: float
    ) -> None:
        self._url, self._path, self._headers, self._query, self._seconds = (
            url,
            path,
            dict(headers),
            dict(query),
            seconds,
        )
        parts = urlsplit(url)
        self._lock = threading.Lock()
        self._left = False
        self._reading = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
        self._writing = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
        try:
            first, *self._waiting = self._ask(self._reading, "GET", None)
            self.opened: dict[str, Any] = json.loads(str(first)[1:])
        except BaseException:
            self._reading.close()
            raise
        self._query["sid"] = self.opened["sid"]
        self._reading.timeout = patience(self.opened)
        if self._reading.sock is not None:
            self._reading.sock.settimeout(self._reading.timeout)

    def upgrade(self) -> WebSocket:
        """Go on by WebSocket, as stock clients do. Raises NotConnected."""
        socket = WebSocket(self._url, self._path, self._headers, self._query, self._seconds, self.opened)
        socket.send("2probe")
        while not (came := socket.receive()):
            pass
        if list(came) != ["3probe"]:
            socket.close()
            raise NotConnected(f"the upgrade was answered {came[0]!r}")
        socket.send("5")
        self._reading.close()
        return socket

    def send(self, packet: Packet) -> None:
        try:
            with self._lock:
                self._ask(self._writing, "POST", _as_text(packet))
        except (OSError, http.client.HTTPException) as error:
            raise NotConnected(f"it is closed: {error}") from error

    def receive(self) -> Sequence[Packet]:
        waiting, self._waiting = self._waiting, []
        try:
            return waiting or self._ask(self._reading, "GET", None)
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            # http.client raises AttributeError where another thread closes its connection.
            raise NotConnected(f"it ended: {error}") from error

    def say_goodbye(self) -> None:
        with suppress(OSError):
            self.send("1")

    def close(self) -> None:
        self.say_goodbye()
        if not self._left:
            with suppress(OSError, AttributeError):
                # Wakes who receives.
                self._reading.sock.shutdown(socket.SHUT_RDWR)
        self._reading.close()
        self._writing.close()

    def leave(self) -> "list[socket.socket]":
        self._left = True
        kept = []
        for connection in (self._reading, self._writing):
            with suppress(OSError, AttributeError):
                kept.append(connection.sock.dup())
                connection.sock.shutdown(socket.SHUT_RD)
        return kept

    def _ask(self, connection: http.client.HTTPConnection, method: str, body: str | None) -> list[Packet]:
        if self._left:
            raise NotConnected("the network is lost")
        connection.request(method, target(self._path, "polling", self._query), body, self._headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if self._left:
            raise NotConnected("the network is lost")
        if answer.status != 200:
            raise NotConnected(f"the server answered HTTP {answer.status}: {text[:200]}")
        return [_as_packet(part) for part in text.split(_RECORD)] if method == "GET" else []


def _as_text(packet: Packet) -> str:
    return packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()


def _as_packet(text: str) -> Packet:
    return base64.b64decode(text[1:]) if text.startswith("b") else text
