"""Servers and raw clients for tests of the transport: gevent sockets, so that both ends live in one process."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import engineio
import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.worker.options import TransportOptions
from mintflow_realtime.transport.worker.server import Server

PATH = "/socket.io/"
POLLING = "?EIO=4&transport=polling"
WEBSOCKET = "?EIO=4&transport=websocket"


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait for a condition, or fail after `seconds`."""
    with gevent.Timeout(seconds, AssertionError("The condition was not met in time")):
        while not (met := condition()):
            gevent.sleep(0.005)
        return met


class Application:
    """A WSGI application of nothing but Engine.IO, on `/socket.io`; elsewhere 404."""

    def __init__(self, engine: Any, affinity_dir: str | None = None) -> None:
        self.engine = engine
        self.seen: list[str] = []
        if isinstance(engine, EngineServer):
            self.transport = TransportOptions("/socket.io", "*", affinity_dir, engine.node_tag, engine)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].rstrip("/") == "/socket.io":
            return self.engine.handle_request(environ, start_response)
        self.seen.append(environ["PATH_INFO"])
        body = environ["wsgi.input"].read()
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here: %d" % len(body)]


class Node:
    """A served engine and what its handlers were told: `events` of (name, sid, argument)."""

    def __init__(self, engine: Any, server: WSGIServer) -> None:
        self.engine, self.server, self.port = engine, server, server.address[1]
        self.events: list[tuple[str, str, Any]] = []
        engine.on("connect", lambda sid, environ: self.events.append(("connect", sid, environ["REMOTE_ADDR"])))
        engine.on("message", lambda sid, message: self.events.append(("message", sid, message)))
        engine.on("disconnect", lambda sid, reason: self.events.append(("disconnect", sid, reason)))

    def named(self, name: str) -> list[Any]:
        return [argument for event, _, argument in self.events if event == name]

    def connect(self) -> "Http":
        return Http(self.port)

    def polling_session(self) -> str:
        with self.connect() as http:
            return str(handshake(http.get(PATH + POLLING))["sid"])


@contextmanager
def serving(affinity_dir: str | None = None, pool: int = 100, **options: Any) -> Iterator[Node]:
    """Serve an EngineServer on a free port with our server and handler."""
    options.setdefault("async_handlers", False)
    engine = EngineServer(cors_allowed_origins=options.pop("cors_allowed_origins", "*"), **options)
    server = Server(("127.0.0.1", 0), Application(engine, affinity_dir), spawn=Pool(pool))
    yield from _run(engine, server)


@contextmanager
def serving_stock(**options: Any) -> Iterator[Node]:
    """Serve the library's own server with geventwebsocket's handler, to show what it does."""
    options.setdefault("async_handlers", False)
    engine = engineio.Server(async_mode="gevent", cors_allowed_origins="*", **options)
    server = WSGIServer(
        ("127.0.0.1", 0), Application(engine), log=None, error_log=None, handler_class=WebSocketHandler, spawn=Pool(100)
    )
    yield from _run(engine, server)


def _run(engine: Any, server: WSGIServer) -> Iterator[Node]:
    server.start()
    node = Node(engine, server)
    try:
        yield node
    finally:
        if isinstance(engine, EngineServer):
            end_sessions(engine)
        server.stop(timeout=0.1)
        if isinstance(engine, EngineServer):
            engine.close()
        elif engine.service_task_event is not None:
            engine.shutdown()


def end_sessions(engine: EngineServer) -> None:
    """Close all sessions, and wait until their disconnect handlers have run and their sockets are gone."""
    for sid in list(engine.sockets):
        engine.close_transport(sid, "test ends")
    until(lambda: not engine.sockets and not engine.poller)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def handshake(response: Response) -> dict[str, Any]:
    assert response.status == 200, response
    opened = response.body.decode().split("\x1e")[0]
    assert opened[0] == "0"
    return dict(json.loads(opened[1:]))


class Http:
    """One connection, kept alive, of a client that writes exactly what it is told."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.buffer = b""

    def __enter__(self) -> "Http":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def get(self, target: str, **headers: str) -> Response:
        return self.request("GET", target, **headers)

    def post(self, target: str, body: bytes | str, **headers: str) -> Response:
        return self.request("POST", target, body, **headers)

    def request(self, method: str, target: str, body: bytes | str | None = None, **headers: str) -> Response:
        self.send(method, target, body, **headers)
        return self.response(method)

    def send(self, method: str, target: str, body: bytes | str | None = None, **headers: str) -> None:
        encoded = body.encode() if isinstance(body, str) else body
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if encoded is not None and not {"Transfer_Encoding", "Content_Length"} & headers.keys():
            lines.append(f"Content-Length: {len(encoded)}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + (encoded or b""))

    def response(self, method: str = "GET") -> Response:
        status, _, rest = self.until(b"\r\n\r\n").decode("latin-1").partition("\r\n")
        headers = {}
        for line in rest.strip().split("\r\n"):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        code = int(status.split()[1])
        body = b"" if code in (101, 204) else self.exactly(int(headers.get("content-length", "0")))
        return Response(code, headers, body)

    def until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self._receive()
        taken, _, self.buffer = self.buffer.partition(end)
        return taken

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._receive()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _receive(self) -> None:
        chunk = self.socket.recv(65536)
        if not chunk:
            raise EOFError(f"The server closed the connection; received {self.buffer!r}")
        self.buffer += chunk

    def at_end(self, seconds: float = 3.0) -> bool:
        """Tell whether the server ends the connection within `seconds`; what it still sends is dropped."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def masked(content: str | bytes, opcode: int = 1) -> bytes:
    """Return a client's frame."""
    payload, mask = content.encode() if isinstance(content, str) else content, os.urandom(4)
    size = len(payload)
    if size < 126:
        length = struct.pack("!B", 0x80 | size)
    else:
        length = struct.pack("!BH", 0xFE, size) if size < 65_536 else struct.pack("!BQ", 0xFF, size)
    return bytes([0x80 | opcode]) + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class WebSocket(Http):
    """A client's end of a WebSocket that answers nothing by itself, close frames included."""

    def __init__(self, port: int, target: str = PATH + WEBSOCKET, **headers: str) -> None:
        super().__init__(port)
        opened = self.get(target, **{**UPGRADE, **headers})
        assert opened.status == 101, opened

    def write(self, content: str | bytes, opcode: int = 1) -> None:
        self.socket.sendall(masked(content, opcode))

    def read(self) -> tuple[int, str]:
        """Return the next frame's opcode and text; of a close frame its code, if it has one, and its reason."""
        first, size = self.exactly(2)
        if size == 126:
            size = struct.unpack("!H", self.exactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self.exactly(8))[0]
        opcode, payload = first & 15, self.exactly(size)
        if opcode == 8 and payload:
            code: int = struct.unpack_from("!H", payload)[0]
            return opcode, f"{code} {payload[2:].decode()}".strip()
        return opcode, payload.decode()
