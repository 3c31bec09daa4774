"""What carries Engine.IO packets for a test's client: the interface of both transports, and what they share."""

import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote, urlencode

Packet = str | bytes


class NotConnected(ConnectionError):
    """There is no connection: none could be made, or it ended."""


class Connection(Protocol):
    """What carries Engine.IO packets; `opened` is the server's first. `receive` is for one thread, `send` for any."""

    opened: dict[str, Any]

    def send(self, packet: Packet) -> None: ...

    def receive(self) -> Sequence[Packet]:
        """Return what came; waits for it. Raises NotConnected."""
        ...

    def say_goodbye(self) -> None:
        """Ask the server to end it, which `receive` then finds. Does nothing where it has ended."""
        ...

    def close(self) -> None:
        """Say good-bye and close, without waiting for the server."""
        ...

    def leave(self) -> "list[socket.socket]":
        """Stop receiving without a word to the server; return sockets that keep it open there, after `close` too."""
        ...


def target(path: str, transport: str, query: Mapping[str, str]) -> str:
    return f"{quote(path.rstrip('/'))}/?{urlencode({**query, 'EIO': '4', 'transport': transport})}"


def patience(opened: Mapping[str, Any]) -> float:
    """Return how long a server may be silent: then the connection is dead, as Engine.IO has it."""
    return float(opened["pingInterval"] + opened["pingTimeout"]) / 1000


def abandon(sockets: "Sequence[socket.socket]") -> None:
    """Close what `leave` returned as a host does that is back in the network, and knows nothing of them: by a reset."""
    for one in sockets:
        with suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
