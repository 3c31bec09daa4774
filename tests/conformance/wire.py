"""Bytes of the protocols, written and read by hand: frames that may be wrong, and a reader that forgives nothing."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

PATH = "/socket.io/?EIO=4&transport="
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x5a\x00\xff\x81"
ACCEPT = base64.b64encode(hashlib.sha1((KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
_PACKET = re.compile(r"4([0-6])(?:(\d+)-)?(?:(/[^,]*),?)?(\d+)?(.*)", re.DOTALL)

VALID_CODES = frozenset([1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)])


class Fault(AssertionError):
    """The server sent what no server may send."""


@dataclass(frozen=True)
class Frame:
    """A client's frame; `form` (7, 16, 64) is how many bits its length has, `declared` another length than its own."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    form: int = 0
    declared: int | None = None

    def __bytes__(self) -> bytes:
        size = len(self.payload) if self.declared is None else self.declared
        form = self.form or (7 if size < 126 else 16 if size < 65536 else 64)
        mask = 0x80 if self.masked else 0
        head = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        head += {
            7: lambda: bytes([mask | size]),
            16: lambda: struct.pack("!BH", mask | 126, size),
            64: lambda: struct.pack("!BQ", mask | 127, size),
        }[form]()
        return head + MASK + masked(self.payload) if self.masked else head + self.payload


def masked(payload: bytes) -> bytes:
    mask = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(payload), "big")


def text(content: str | bytes) -> bytes:
    return bytes(Frame(TEXT, content.encode() if isinstance(content, str) else content))


def message(content: str | bytes) -> bytes:
    """Return the frame of one Engine.IO packet: text as it is, bytes as a binary message."""
    return text(content) if isinstance(content, str) else bytes(Frame(BINARY, content))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return bytes(Frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason))


class Received(NamedTuple):
    """What came: text, binary, ping, pong, close (content: the code, or None without one), or end."""

    kind: str
    content: Any = None


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> Any:
        """The `code` of an Engine.IO error."""
        return json.loads(self.body)["code"]


class Peer:
    """One TCP connection, blocking, with a deadline for everything that it waits for."""

    patience = 3.0

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            # Before the connection is there, or its window is open already.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(self.patience)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Of a case that failed halfway.
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish(self) -> None:
        """Send FIN, and go on reading."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def send(self, content: bytes) -> None:
        """Send; a server that has ended the connection already is seen by who reads."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(content)

    def more(self, deadline: float) -> bool:
        """Wait for bytes; False at the end. Raises AssertionError after `deadline`."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise AssertionError(f"nothing came in time; unread: {self.buffer[:200]!r}")
        self.socket.settimeout(left)
        try:
            chunk = self.socket.recv(1 << 18)
        except TimeoutError:
            raise AssertionError(f"nothing came in time; unread: {self.buffer[:200]!r}") from None
        except ConnectionResetError:
            return False
        self.buffer += chunk
        return bool(chunk)

    # HTTP

    def request(self, method: str, target: str, body: bytes | None = None, *headers: str) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
        if body is not None and not any(one.lower().startswith(("content-length", "transfer-")) for one in headers):
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    def response(self, method: str = "GET") -> Response:
        """Return the next response. Raises AssertionError where none comes, EOFError where the connection ends."""
        deadline = time.monotonic() + self.patience
        while b"\r\n\r\n" not in self.buffer:
            if not self.more(deadline):
                raise EOFError(f"the server ended the connection; unread: {self.buffer[:200]!r}")
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if "chunked" in headers.get("transfer-encoding", ""):
            return Response(status, headers, self._chunks(deadline))
        size = 0 if status in (101, 204, 304) or method == "HEAD" else int(headers.get("content-length", "0"))
        while len(self.buffer) < size:
            if not self.more(deadline):
                raise EOFError("the server ended the connection within a body")
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Response(status, headers, body)

    def _chunks(self, deadline: float) -> bytes:
        body = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0 or len(self.buffer) < end + 4 + int(self.buffer[:end], 16):
                if not self.more(deadline):
                    raise EOFError("the server ended the connection within a body")
            size = int(self.buffer[:end], 16)
            body += self.buffer[end + 2 : end + 2 + size]
            self.buffer = self.buffer[end + 4 + size :]
            if not size:
                return body

    def ask(self, method: str, target: str, body: bytes | None = None, *headers: str) -> Response:
        self.request(method, target, body, *headers)
        return self.response(method)

    def at_end(self) -> bool:
        """Tell whether the server ends the connection in time; what it still sends is dropped."""
        deadline = time.monotonic() + self.patience
        try:
            while self.more(deadline):
                self.buffer = b""
        except AssertionError:
            return False
        return True


def upgrade_head(target: str, *headers: str, key: str = KEY, version: str = "13") -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
    lines += [f"Sec-WebSocket-Version: {version}", f"Sec-WebSocket-Key: {key}", *headers, "", ""]
    return "\r\n".join(lines).encode()


class WebSocket(Peer):
    """A client's end of a WebSocket that answers nothing by itself but Engine.IO's pings."""

    def __init__(self, port: int, target: str = PATH + "websocket", *headers: str, **options: int) -> None:
        super().__init__(port, **options)
        self.send(upgrade_head(target, *headers))
        opened = self.response()
        assert opened.status == 101, opened
        assert opened.headers["sec-websocket-accept"] == ACCEPT, opened
        assert "sec-websocket-extensions" not in opened.headers, opened

    def joined(self, *namespaces: str) -> "WebSocket":
        """Read the open packet, and connect to `namespaces`."""
        assert self.next().content[:7] == '0{"sid"'
        for namespace in namespaces:
            self.send(text("40" if namespace == "/" else f"40{namespace},"))
            assert normal(self.next().content)[:3] == (0, 0, namespace)
        return self

    def next(self, within: float | None = None) -> Received:
        """Return what comes next. Raises Fault for a frame that breaks RFC 6455, AssertionError after the deadline."""
        deadline = time.monotonic() + (within or self.patience)
        while True:
            found = self._frame()
            if found is None:
                if not self.more(deadline):
                    if self.buffer:
                        raise Fault(f"the connection ended within a frame: {self.buffer[:50]!r}")
                    return Received("end")
                continue
            if found == ("text", "2"):
                self.send(text("3"))
                continue
            return found

    def ask(self, *arguments: Any, number: int = 999) -> Any:  # type: ignore[override]
        """Send an event `echo` to `/`, and return what it is acked with; anything else that comes first is a Fault."""
        self.send(text(f"42{number}{json.dumps(['echo', *arguments])}"))
        answer = self.next()
        if answer.kind != "text" or normal(answer.content)[:4] != (3, 0, "/", number):
            raise Fault(f"not an ack: {answer}")
        return normal(answer.content)[4]

    def ended(self) -> bool:
        """Answer a close frame that has come, and tell whether the TCP connection ends, with nothing before it."""
        self.send(close(1000))
        deadline = time.monotonic() + self.patience
        if self.buffer:
            raise Fault(f"something after a close frame: {self.buffer[:50]!r}")
        if self.more(deadline):
            raise Fault(f"something after a close frame: {self.buffer[:50]!r}")
        return True

    def ends(self) -> bool:
        """Read to the end, and answer a close frame on the way. Raises AssertionError where none comes."""
        while (came := self.next()).kind not in ("close", "end"):
            pass
        return came.kind == "end" or self.ended()

    def _frame(self) -> Received | None:
        data = self.buffer
        if len(data) < 2:
            return None
        opcode, size, start = data[0] & 15, data[1], 2
        if data[0] & 0x70 or not data[0] & 0x80 or size & 0x80 or opcode not in (1, 2, 8, 9, 10):
            raise Fault(f"not a frame of a server (5.1, 5.2): {data[:20]!r}")
        if size > 125:
            start = 4 if size == 126 else 10
            if opcode >= 8:
                raise Fault(f"a control frame over 125 bytes (5.5): {data[:20]!r}")
            if len(data) < start:
                return None
            short, size = (
                (126, struct.unpack_from("!H", data, 2)[0])
                if start == 4
                else (
                    65536,
                    struct.unpack_from("!Q", data, 2)[0],
                )
            )
            if size < short:
                raise Fault(f"a length that is not minimal (5.2): {data[:20]!r}")
        if len(data) < start + size:
            return None
        payload, self.buffer = data[start : start + size], data[start + size :]
        if opcode == TEXT:
            return Received("text", payload.decode())
        if opcode == CLOSE:
            return Received("close", _close_code(payload))
        return Received({BINARY: "binary", PING: "ping", PONG: "pong"}[opcode], payload)


def _close_code(payload: bytes) -> int | None:
    if not payload:
        return None
    if len(payload) < 2 or int.from_bytes(payload[:2], "big") not in VALID_CODES:
        raise Fault(f"not a close code of a server (7.4): {payload!r}")
    payload[2:].decode()
    return int.from_bytes(payload[:2], "big")


def normal(packet: Any) -> Any:
    """Return (type, attachments, namespace, id, content) of a Socket.IO packet's text, and anything else as it is."""
    found = _PACKET.fullmatch(packet) if isinstance(packet, str) else None
    if found is None:
        return packet
    kind, attachments, namespace, number, content = found.groups()
    try:
        value = json.loads(content, parse_constant=_no_constant) if content else None
    except RecursionError:
        value = content
    except ValueError as error:
        raise Fault(f"not JSON: {packet[:200]} ({error})") from None
    if kind == "0" and isinstance(value, dict) and isinstance(value.get("sid"), str):
        value = {**value, "sid": "*"}
    # Python refuses to make a number of over 4,300 digits.
    id = None if number is None else int(number) if len(number) < 4000 else number
    return int(kind), int(attachments or 0), namespace or "/", id, value


def _no_constant(name: str) -> Any:
    raise Fault(f"{name} is not JSON (RFC 8259)")


class Polling:
    """A session over HTTP long-polling, on two kept-alive connections."""

    def __init__(self, port: int, *, query: str = "", headers: tuple[str, ...] = ()) -> None:
        self.port, self.gets, self.posts = port, Peer(port), Peer(port)
        opened = self.gets.ask("GET", PATH + "polling" + query, None, *headers)
        assert opened.status == 200 and opened.body[:1] == b"0", opened
        self.handshake = json.loads(opened.body[1:])
        self.sid = self.handshake["sid"]
        self.target = f"{PATH}polling&sid={self.sid}"

    def __enter__(self) -> "Polling":
        return self

    def __exit__(self, *_: object) -> None:
        self.gets.close()
        self.posts.close()
        # End the session too, where it lives: one that is in a namespace would stay until its ping timeout.
        with contextlib.suppress(AssertionError, EOFError, OSError), Peer(self.port) as last:
            last.ask("POST", self.target, b"1")

    def joined(self, *namespaces: str) -> "Polling":
        for namespace in namespaces:
            assert self.post("40" if namespace == "/" else f"40{namespace},").status == 200
            assert normal(self.poll()[0].content)[:3] == (0, 0, namespace)
        return self

    def post(self, *packets: str | bytes) -> Response:
        return self.posts.ask("POST", self.target, payload(*packets))

    def get(self) -> Response:
        return self.gets.ask("GET", self.target)

    def poll(self) -> list[Received]:
        """Wait for packets and return them; pings and NOOP are left out, a session that is gone is an end."""
        answer = self.get()
        return [Received("end")] if answer.status == 400 else unpacked(answer)


def payload(*packets: str | bytes) -> bytes:
    """Return the body of a polling request."""
    encoded = [b"b" + base64.b64encode(one) if isinstance(one, bytes) else one.encode() for one in packets]
    return b"\x1e".join(encoded)


def unpacked(answer: Response) -> list[Received]:
    """Return the packets of a polled body. Raises Fault for one that no server may send."""
    assert answer.status == 200, answer
    found = []
    for one in answer.body.decode().split("\x1e"):
        if one[:1] == "b":
            found.append(Received("binary", base64.b64decode(one[1:], validate=True)))
        elif one[:1] == "4":
            found.append(Received("text", one))
        elif one not in ("2", "6", "1"):
            raise Fault(f"not a packet of a server: {one[:50]!r}")
    return found
