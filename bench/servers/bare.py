"""WebSockets with nothing around them: the handshake, and frames that are always the same."""

import base64
import hashlib
import os
import socket
import struct
from typing import Any

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


def shake_hands(connection: Any) -> None:
    """Read the request of a client and open its WebSocket."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(4096)
        if not part:
            raise ConnectionError("closed before the handshake")
        head += part
    key = next(
        line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def event_frame(size: int) -> bytes:
    """Return the frame of the event that all servers send, with `size` bytes of data."""
    text = b'42/bench,["event",{"at":0,"data":"' + b"x" * size + b'"}]'
    length = len(text)
    return (bytes((0x81, length)) if length < 126 else struct.pack("!BBH", 0x81, 126, length)) + text


def main() -> None:
    """Answer whatever comes with one frame, one greenlet a connection: gevent's own share of a round trip."""
    import gevent.server

    frame = event_frame(20)

    def serve(connection: Any, address: Any) -> None:
        try:
            shake_hands(connection)
        except (ConnectionError, StopIteration):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # who only looked whether somebody answers
            return
        while connection.recv(65536):
            connection.send(frame)

    gevent.server.StreamServer(("127.0.0.1", int(os.environ["PORT"])), serve, backlog=2048).serve_forever()


if __name__ == "__main__":
    main()
