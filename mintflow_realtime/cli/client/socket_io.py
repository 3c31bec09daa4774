"""Socket.IO over either transport: namespaces, commands with their acks, and events in between."""

import json
import re
import time
from collections import deque
from typing import Any, NamedTuple, Protocol

from mintflow_realtime.cli.client.errors import ClientError, Closed, CommandError, Refused
from mintflow_realtime.cli.client.target import PATIENCE, Target
from mintflow_realtime.cli.client.websocket import WebSocket

# Type, namespace, ack id, JSON: https://socket.io/docs/v4/socket-io-protocol/
_PACKET = re.compile(r"4([0-6])(?:(/[^,]*),)?([0-9]*)(.*)", re.DOTALL)
# How many events may wait while a command is answered; older ones go, since who follows asks for state anyway.
MAX_WAITING = 1000


class Transport(Protocol):
    """What carries Engine.IO packets."""

    def send(self, packet: str, timeout: float = PATIENCE) -> None:
        """Send one packet."""
        ...

    def receive(self, timeout: float) -> str | None:
        """Return the next packet, or None after `timeout` seconds."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Event(NamedTuple):
    """An event of the server."""

    namespace: str
    name: str
    payload: Any


class SocketIo:
    """A client. Every method raises Closed or Unreached where the connection has ended."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._events: deque[Event] = deque(maxlen=MAX_WAITING)
        self._last_id = 0

    @classmethod
    def by_websocket(cls, target: Target) -> "SocketIo":
        """Connect by WebSocket alone. Raises Unreached, NotUpgraded, Closed."""
        websocket = WebSocket(target)
        opening = websocket.receive(PATIENCE)
        if opening is None or not opening.startswith("0"):
            websocket.close()
            raise ClientError("the WebSocket opens, but nothing comes through it")
        return cls(websocket)

    def join(self, namespace: str, auth: dict[str, str]) -> None:
        """Connect to a namespace. Raises Refused."""
        self.transport.send(f"40{_prefix(namespace)}{json.dumps(auth) if auth else ''}")
        kind, data = self._wait(lambda packet: packet[0] in "04" and packet[1] == namespace)
        if kind == "4":
            said = data if isinstance(data, dict) else {}
            code = (said.get("data") or {}).get("code", "")
            raise Refused(str(said.get("message", "refused")), str(code))

    def leave(self, namespace: str) -> None:
        """Leave a namespace; the server doesn't answer that."""
        self.transport.send(f"41{_prefix(namespace)}")

    def call(self, namespace: str, command: str, payload: Any, timeout: float = PATIENCE) -> Any:
        """Return the data of a command's ack. Raises CommandError."""
        self._last_id += 1
        number = str(self._last_id)
        text = json.dumps([command, payload], ensure_ascii=False, separators=(",", ":"))
        self.transport.send(f"42{_prefix(namespace)}{number}{text}", timeout)
        _, data = self._wait(lambda packet: packet[0] == "3" and packet[2] == number, timeout)
        answer = data[0] if isinstance(data, list) and data else {}
        if isinstance(answer, dict) and answer.get("ok") is True:
            return answer.get("data")
        error = answer.get("error") if isinstance(answer, dict) else None
        raise CommandError(error if isinstance(error, dict) else {"message": "an answer of another protocol"})

    def next_event(self, timeout: float) -> Event | None:
        """Return the next event, or None after `timeout` seconds. Answers heartbeats meanwhile."""
        deadline = time.monotonic() + timeout
        while not self._events:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._step(left)
        return self._events.popleft()

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def _wait(self, wanted: Any, timeout: float = PATIENCE) -> tuple[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ClientError(f"no answer within {timeout:g} s")
            packet = self._step(left)
            if packet and wanted(packet):
                return packet[0], packet[3]

    def _step(self, timeout: float) -> tuple[str, str, str, Any] | None:
        """Take one packet: (type, namespace, ack id, data); an event is kept for `next_event`."""
        text = self.transport.receive(timeout)
        if text is None:
            return None
        if text == "2":
            self.transport.send("3")
            return None
        if text == "1":
            raise Closed(1000)
        found = _PACKET.fullmatch(text)
        if not found:
            return None
        kind, namespace, number, rest = found[1], found[2] or "/", found[3], found[4]
        try:
            data = json.loads(rest) if rest else None
        except ValueError:
            return None
        if kind == "2" and isinstance(data, list) and data:
            self._events.append(Event(namespace, str(data[0]), data[1] if len(data) > 1 else None))
        if kind == "1":
            raise Closed(1000)
        return kind, namespace, number, data


def _prefix(namespace: str) -> str:
    return "" if namespace == "/" else f"{namespace},"
