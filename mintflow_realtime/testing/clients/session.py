"""The life of a test's client, in a thread of its own: it connects, reads, and comes back where it was cut."""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mintflow_realtime.testing.clients import packets
from mintflow_realtime.testing.clients.engine import Connection, NotConnected, abandon
from mintflow_realtime.testing.clients.refusals import error_of

# Events that a client keeps; a test that has more forgets the oldest.
MAX_EVENTS = 100_000
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0


@dataclass(slots=True)
class Event:
    """One event that came; `taken` by a `wait_for`."""

    name: str
    arguments: list[Any]
    taken: bool = False

    @property
    def payload(self) -> Any:
        """Its one argument, as nearly all have; None without one, a list of several."""
        return self.arguments[0] if len(self.arguments) == 1 else (self.arguments or None)


class ClientSession:
    """What a client knows, guarded by `_changed`, and the thread that changes it."""

    def __init__(
        self,
        open_connection: Callable[[], Connection],
        namespace: str,
        token: str | Callable[[], str] | None,
        auth: dict[str, Any],
        recover: bool,
    ) -> None:
        self.namespace = namespace
        self.sid: str | None = None
        self.recovered = False
        """Whether the last connection went on with the session of the one before."""
        self.connections = 0
        """How often it has been connected."""
        self._open, self._token, self._auth, self._recover = open_connection, token, auth, recover
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._closing = False
        self._refused: Exception | None = None
        self._fault = "no try has ended yet"
        self._network_back = 0.0
        self._left: list[socket.socket] = []
        self._pid: str | None = None
        self._offset: str | None = None
        self._early: list[packets.SocketPacket] = []
        self._partial: tuple[packets.SocketPacket, list[bytes]] | None = None
        self._last_id = 0
        self._answers: dict[int, list[Any] | None] = {}
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._thread = threading.Thread(target=self._run, name=f"client of {namespace}", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether it is connected to its namespace now."""
        return self.sid is not None

    @property
    def _ended(self) -> bool:
        return self._closing or self._refused is not None

    def _run(self) -> None:
        delay = 0.0
        while self._await_turn(delay):
            before = self.connections
            try:
                self._live()
            except NotConnected as error:
                self._fault = str(error)
            except Exception as error:
                # A token function that fails, or a packet that nobody can read: the test is told, where it waits.
                self._end(error)
            longer = min(max(2 * delay, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
            delay = FIRST_DELAY_SECONDS if self.connections > before else longer
        abandon(self._left)

    def _end(self, reason: Exception) -> None:
        with self._changed:
            self._refused = reason
            self._changed.notify_all()

    def _await_turn(self, delay: float) -> bool:
        """Wait until the network is back and, after the first try, for `delay`; return whether to try again."""
        with self._changed:
            while not self._ended and (left := self._network_back - time.monotonic()) > 0:
                self._changed.wait(left)
            left_open, self._left = self._left, []
            abandon(left_open)
            self._changed.wait_for(lambda: self._ended, delay)
            return not self._ended

    def _live(self) -> None:
        connection = self._open()
        try:
            with self._changed:
                if self._ended or time.monotonic() < self._network_back:
                    return
                self._connection = connection
            connection.send(str(packets.encode(packets.CONNECT, self.namespace, self._connect_payload())[0]))
            while True:
                for packet in connection.receive():
                    self._take(connection, packet)
        finally:
            with self._changed:
                self._detach()
            connection.close()

    def _connect_payload(self) -> dict[str, Any]:
        token = self._token if self._token is None or isinstance(self._token, str) else self._token()
        payload = self._auth | ({} if token is None else {"token": token})
        if self._recover:
            payload["recover"] = True
        if self._pid is not None:
            payload |= {"pid": self._pid} | ({} if self._offset is None else {"offset": self._offset})
        return payload

    def _take(self, connection: Connection, packet: str | bytes) -> None:
        if isinstance(packet, bytes):
            if self._partial is not None:
                whole, came = self._partial
                came.append(packet)
                if len(came) == whole.attachments:
                    self._partial = None
                    self._handle(connection, packets.with_bytes(whole, came))
        elif packet.startswith("2"):
            connection.send("3" + packet[1:])
        elif packet.startswith("1"):
            raise NotConnected("the server closed it")
        elif packet.startswith("4"):
            read = packets.decode(packet[1:])
            if read.attachments:
                self._partial = (read, [])
            else:
                self._handle(connection, read)

    def _handle(self, connection: Connection, packet: packets.SocketPacket) -> None:
        if packet.namespace != self.namespace:
            return
        with self._changed:
            if self._connection is not connection:
                raise NotConnected("the network is lost")
            if packet.kind == packets.CONNECT:
                self._begin(packet.content)
            elif packet.kind == packets.EVENT:
                # What is replayed comes before CONNECT, and is told behind it, as stock clients do.
                if self.connected:
                    self._note(packet)
                else:
                    self._early.append(packet)
            elif packet.kind == packets.ACK and packet.id in self._answers:
                self._answers[packet.id] = packet.content
            elif packet.kind == packets.CONNECT_ERROR:
                self._refused = error_of(packet.content.get("data") or {}, packet.content.get("message", ""))
            elif packet.kind == packets.DISCONNECT:
                self._refused = ConnectionError(f"The server disconnected this client from {self.namespace}.")
            self._changed.notify_all()
        if self._refused is not None:
            raise NotConnected("the server refused it")

    def _begin(self, content: Mapping[str, Any]) -> None:
        self.sid = content["sid"]
        pid = content.get("pid")
        self.recovered = pid is not None and pid == self._pid
        self._pid = pid
        self.connections += 1
        early, self._early = self._early, []
        for packet in early:
            self._note(packet)

    def _note(self, packet: packets.SocketPacket) -> None:
        name, *arguments = packet.content
        if self._pid is not None and arguments and isinstance(arguments[-1], str):
            self._offset = arguments[-1]
            arguments.pop()
            if name == "position" and not arguments:
                return
        self._events.append(Event(name, arguments))

    def _detach(self) -> Connection | None:
        """Be without a connection and return the one that was; the caller holds the lock."""
        connection, self._connection, self.sid = self._connection, None, None
        self._partial = None
        self._changed.notify_all()
        return connection
