"""A blocking WebSocket, on wsproto: it tells exactly how a handshake was answered and how a connection ended."""

import time
from collections import deque

import wsproto.events
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from mintflow_realtime.cli.client.errors import Closed, NotUpgraded, Unreached
from mintflow_realtime.cli.client.target import PATIENCE, Target

READ_BYTES = 65_536
MAX_REFUSAL_BYTES = 4096
# The server's own largest is 1 MB.
MAX_MESSAGE_CHARACTERS = 16_000_000


class WebSocket:
    """One open connection. `send` and `receive` carry text."""

    def __init__(self, target: Target, **query: str) -> None:
        """Connect. Raises Unreached, NotUpgraded, Closed."""
        self._socket = target.connect()
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._messages: deque[str] = deque()
        self._parts: list[str] = []
        self._size = 0
        self._closed: Closed | None = None
        self._first_line = b""
        try:
            self._handshake(target, query)
        except BaseException:
            self._socket.close()
            raise

    def send(self, text: str, timeout: float = PATIENCE) -> None:
        """Send one message. Raises Closed."""
        self._write(self._protocol.send(TextMessage(text)), timeout)

    def receive(self, timeout: float) -> str | None:
        """Return the next message, or None where none comes within `timeout` seconds. Raises Closed."""
        deadline = time.monotonic() + timeout
        while not self._messages:
            if self._closed:
                raise self._closed
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._read(left)
        return self._messages.popleft()

    def close(self) -> None:
        """Say goodbye and close."""
        try:
            self._write(self._protocol.send(CloseConnection(code=1000)), 1.0)
        except (Closed, LocalProtocolError):
            pass
        self._socket.close()

    def _handshake(self, target: Target, query: dict[str, str]) -> None:
        request = Request(
            host=target.authority,
            target=target.request_target(transport="websocket", **query),
            extra_headers=[(b"User-Agent", b"mintflow")],
        )
        self._write(self._protocol.send(request), PATIENCE)
        deadline = time.monotonic() + PATIENCE
        refusal: RejectConnection | None = None
        body = b""
        while True:
            left = deadline - time.monotonic()
            data = self._received(max(0.0, left))
            if data is None:
                raise Unreached("the handshake of a WebSocket isn't answered in time", "Look at the proxy's log.")
            if len(self._first_line) < 16:
                self._first_line += data[:16]
            try:
                self._protocol.receive_data(data or None)
                events = list(self._protocol.events())
            except RemoteProtocolError as error:
                if refusal is None and not data:
                    raise Closed(1006) from error
                if refusal is None:
                    raise NotUpgraded(self._status(), self._version(), {}, str(error)) from error
                events = []
            for event in events:
                if isinstance(event, AcceptConnection):
                    self._take(events[events.index(event) + 1 :])
                    return
                if isinstance(event, RejectConnection):
                    refusal = event
                elif isinstance(event, RejectData):
                    body += event.data
            ended = not data or any(isinstance(event, RejectData) and event.body_finished for event in events)
            if refusal is None and not data:
                raise Closed(1006)
            if refusal and (ended or not refusal.has_body or len(body) > MAX_REFUSAL_BYTES):
                headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in refusal.headers}
                text = body[:MAX_REFUSAL_BYTES].decode("utf-8", "replace")
                raise NotUpgraded(refusal.status_code, self._version(), headers, text)

    def _status(self) -> int:
        code = self._first_line[9:12]
        return int(code) if code.isdigit() else 0

    def _version(self) -> str:
        return self._first_line[5:8].decode("latin-1")

    def _read(self, timeout: float) -> None:
        data = self._received(timeout)
        if data is None:
            return
        try:
            self._protocol.receive_data(data or None)
            self._take(list(self._protocol.events()))
        except RemoteProtocolError:
            self._closed = Closed(1002)
        if not data and self._closed is None:
            self._closed = Closed(1006)

    def _take(self, events: list[wsproto.events.Event]) -> None:
        for event in events:
            if isinstance(event, TextMessage):
                self._parts.append(event.data)
                self._size += len(event.data)
                if self._size > MAX_MESSAGE_CHARACTERS:
                    self._closed = Closed(1009, "a message is too large")
                    return
                if event.message_finished:
                    self._messages.append("".join(self._parts))
                    self._parts.clear()
                    self._size = 0
            elif isinstance(event, Ping):
                self._write(self._protocol.send(event.response()), PATIENCE)
            elif isinstance(event, CloseConnection) and self._closed is None:
                # wsproto says 1006 for a connection that just ended.
                self._closed = Closed(int(event.code), event.reason or "")

    def _received(self, timeout: float) -> bytes | None:
        """Return what has come, b"" at the end of the connection, None after `timeout`."""
        self._socket.settimeout(max(0.001, timeout))
        try:
            return self._socket.recv(READ_BYTES)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def _write(self, data: bytes, timeout: float) -> None:
        self._socket.settimeout(timeout)
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._closed = self._closed or Closed(1006)
            raise self._closed from error
