"""A Socket.IO client that is nothing but packets: what goes out and what comes back are the test's own."""

import contextlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import websocket

_PACKET = re.compile(r"4([0-4])(?:(/[^,]*),)?(\d+)?(.*)", re.DOTALL)
CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR = range(5)


class Message(NamedTuple):
    """One packet of the server: `content` is its JSON, decoded."""

    kind: int
    namespace: str
    id: int | None
    content: Any


class Closed(Exception):
    """The server closed the connection."""


class Plain:
    """One WebSocket without a thread of its own; pings are answered while something is awaited."""

    def __init__(self, url: str, *, query: str = "", headers: Mapping[str, str] | None = None) -> None:
        address = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket" + (query and "&" + query)
        # It validates UTF-8 byte by byte in Python, half a second a megabyte, and decodes strictly all the same.
        self.socket = websocket.create_connection(
            address, timeout=10, header=dict(headers or {}), skip_utf8_validation=True
        )
        self._raw = self.socket.sock
        self.opened = json.loads(self.socket.recv()[1:])
        self.sids: dict[str, str] = {}
        self._waiting: list[Message] = []
        # Ids below are a test's own.
        self._id = 1000

    def send(self, text: str | bytes) -> None:
        """Send one WebSocket message as it is."""
        if isinstance(text, bytes):
            self.socket.send_binary(text)
        else:
            self.socket.send(text)

    def emit(self, namespace: str, *arguments: Any, id: int | None = None) -> None:
        """Send an event."""
        self.send(f"42{_prefix(namespace)}{'' if id is None else id}{json.dumps(arguments)}")

    def join(self, namespace: str, auth: Any = None) -> Message:
        """Send CONNECT and return what it is answered with. Raises Closed."""
        self.send(f"40{_prefix(namespace)}" + ("" if auth is None else json.dumps(auth)))
        answer = self._next(lambda m: m.kind in (CONNECT, CONNECT_ERROR) and m.namespace == namespace)
        if answer.kind == CONNECT:
            self.sids[namespace] = answer.content["sid"]
        return answer

    def call(self, namespace: str, *arguments: Any, seconds: float = 10) -> Any:
        """Send a command with an ack and return the ack's one argument."""
        self._id += 1
        self.emit(namespace, *arguments, id=self._id)
        number = self._id
        answer = self._next(lambda m: m.kind == ACK and m.id == number, seconds)
        assert answer.namespace == namespace and len(answer.content) == 1, answer
        return answer.content[0]

    def told(self, namespace: str, event: str, seconds: float = 10) -> Any:
        """Wait for an event and return its payload; what came before it stays."""
        return self._next(lambda m: m.kind == EVENT and m.namespace == namespace and m.content[0] == event, seconds)[3][
            1
        ]

    def told_with_offset(self, namespace: str, event: str) -> str:
        """Wait for an event and return the offset that it ends with, for a client that recovers."""
        told = self._next(lambda m: m.kind == EVENT and m.namespace == namespace and m.content[0] == event)
        return str(told.content[-1])

    @property
    def waiting(self) -> list[Message]:
        """What has come and was not asked for yet."""
        return self._waiting

    def settle(self, namespace: str) -> list[Message]:
        """Return all that has come until a command of now is answered."""
        assert self.call(namespace, "settle")["error"]["code"] == "unknown_event"
        came, self._waiting = self._waiting, []
        return came

    def events(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the events that have come until a command of now is answered."""
        return [(m.content[0], m.content[1]) for m in self.settle(namespace) if m.kind == EVENT]

    def wait_closed(self, seconds: float = 5) -> list[Message]:
        """Wait until the server closes the connection; return what came before that. No DISCONNECT may be in it."""
        try:
            self._next(lambda m: False, seconds)
        except Closed:
            assert all(m.kind != DISCONNECT for m in self._waiting), self._waiting
            return self._waiting
        raise AssertionError("unreachable")

    def close(self) -> None:
        with contextlib.suppress(OSError, websocket.WebSocketException):
            self.socket.close(timeout=0)
        # The library forgets its socket, open, where the server closed the connection.
        self._raw.close()

    stop = close

    def _next(self, wanted: Any, seconds: float = 10) -> Message:
        for place, message in enumerate(self._waiting):
            if wanted(message):
                return self._waiting.pop(place)
        deadline = time.monotonic() + seconds
        while True:
            message = self._read(deadline)
            if message is None:
                continue
            if wanted(message):
                return message
            self._waiting.append(message)

    def _read(self, deadline: float) -> Message | None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"no answer in time; came: {str(self._waiting)[:2000]}")
        self.socket.settimeout(left)
        try:
            text = self.socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError) as error:
            raise Closed(str(error)) from None
        if text == "" or isinstance(text, bytes):
            raise Closed("closed")
        if text == "2":
            self.socket.send("3")
            return None
        found = _PACKET.fullmatch(text)
        assert found, text
        kind, namespace, id, content = found.groups()
        return Message(int(kind), namespace or "/", int(id) if id else None, json.loads(content) if content else None)


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else namespace + ","
