"""Socket.IO servers on a free port, ours and the library's, and a raw client that sends exactly what it is told."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gevent
import socketio
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

from mintflow_realtime.protocol import wire_json
from mintflow_realtime.transport.socket_io.server import SocketServer
from mintflow_realtime.transport.worker.server import Server
from tests.hall import OurMembership
from tests.transport_client import Application, WebSocket, end_sessions


@contextmanager
def serving(build: Callable[[Any], None], gate: Any = None, manager: Any = None, **options: Any) -> Iterator[Any]:
    """Serve our server; `build(server)` registers what it has."""
    server = SocketServer(client_manager=manager or OurMembership(), json=wire_json, **options)
    server.gate = gate
    build(server)
    listener = Server(("127.0.0.1", 0), Application(server.eio), spawn=Pool(100))
    yield from _run(server, listener)


@contextmanager
def serving_stock(build: Callable[[Any], None], **options: Any) -> Iterator[Any]:
    """Serve the library's server with geventwebsocket's handler."""
    server = socketio.Server(async_mode="gevent", **options)
    build(server)
    listener = WSGIServer(
        ("127.0.0.1", 0),
        Application(server.eio),
        log=None,
        error_log=None,
        handler_class=WebSocketHandler,
        spawn=Pool(100),
    )
    yield from _run(server, listener)


def _run(server: Any, listener: WSGIServer) -> Iterator[Any]:
    listener.start()
    server.port = listener.address[1]
    try:
        yield server
    finally:
        if isinstance(server, SocketServer):
            end_sessions(server.eio)
        listener.stop(timeout=0.1)
        if isinstance(server, SocketServer):
            server.eio.close()
        elif server.eio.service_task_event is not None:
            server.eio.shutdown()


class Client:
    """One WebSocket. Packets are texts without Engine.IO's leading 4; pings are answered while reading."""

    def __init__(self, server: Any) -> None:
        self.socket = WebSocket(server.port)
        self.eio_sid = json.loads(self.socket.read()[1][1:])["sid"]

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, packet: str) -> None:
        self.socket.write("4" + packet)

    def read(self, seconds: float = 5.0) -> str:
        """Return the next packet. Raises AssertionError after `seconds`, EOFError at the end."""
        with gevent.Timeout(seconds, AssertionError("nothing came")):
            while True:
                opcode, text = self.socket.read()
                if opcode == 8:
                    with suppress(OSError):
                        self.socket.write("", opcode=8)
                    raise EOFError("closed")
                if text == "2":
                    self.socket.write("3")
                elif opcode == 1:
                    return text[1:]

    def silent(self, seconds: float = 0.1) -> bool:
        """Tell whether nothing comes within `seconds`."""
        try:
            self.read(seconds)
        except AssertionError:
            return True
        return False

    def ended(self) -> bool:
        """Tell whether the server ends the TCP connection within 3 s; a close frame is answered."""
        try:
            with gevent.Timeout(3):
                while True:
                    self.read()
        except (EOFError, ConnectionResetError):
            return self.socket.at_end()
        except gevent.Timeout:
            return False

    def connect(self, namespace: str, auth: Any = None) -> str:
        """Join a namespace and return the answer: `0…` with the sid, or `4…` with what refused it."""
        self.send(f"0{namespace}," + ("" if auth is None else json.dumps(auth)))
        return self.read()

    def joined(self, namespace: str, auth: Any = None) -> str:
        """Join a namespace and return the sid."""
        answer = self.connect(namespace, auth)
        assert answer.startswith(f"0{namespace},"), answer
        return str(json.loads(answer.partition(",")[2])["sid"])
