"""Reading a WebSocket request's head without pywsgi: what it makes of one, and which it leaves to pywsgi."""

import io
import socket
from typing import Any

import pytest
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIHandler, WSGIServer

from mintflow_realtime.transport.engine_io.request import is_websocket_handshake
from mintflow_realtime.transport.http.environ import environ_of
from mintflow_realtime.transport.http.request_head import parse_head
from mintflow_realtime.transport.loop.kernel_socket import duplicate, kernel_socket
from mintflow_realtime.transport.websocket.handshake import switching

ADDRESS = ("127.0.0.1", 4711)
BASE = {
    "SERVER_NAME": "here",
    "SERVER_PORT": "80",
    "SCRIPT_NAME": "",
    "REQUEST_METHOD": "old",
    "wsgi.url_scheme": "http",
}
LINES = [
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
    "Host: a.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


def head(*more: str, first: str | None = None) -> bytes:
    lines = [first or LINES[0], *LINES[1:], *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    "line", ["upgrade: WebSocket", "UPGRADE:websocket", "Upgrade: \t websocket \t", "Upgrade: h2c,websocket"]
)
def test_a_head_that_may_ask_for_a_websocket(line: str) -> None:
    lines = [one for one in LINES if not one.startswith("Upgrade")]
    assert parse_head("\r\n".join([*lines, line, "", ""]).encode()).asks_for_websocket


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /?Upgrade:websocket HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nX-Upgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websockets\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_head_that_does_not(request_head: bytes) -> None:
    assert not parse_head(request_head).asks_for_websocket


def test_an_environ_is_what_the_handshake_needs() -> None:
    environ = environ_of(parse_head(head()), ADDRESS, BASE)
    assert is_websocket_handshake(environ)
    assert environ["SERVER_NAME"] == "here" and environ["REQUEST_METHOD"] == "GET"
    assert BASE["REQUEST_METHOD"] == "old", "the base is everybody's"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("127.0.0.1", "4711")
    assert "REMOTE_ADDR" not in environ_of(parse_head(head()), "", BASE)


class Pywsgi(WSGIHandler):
    """pywsgi's reading of a head, without a socket."""

    def __init__(self, request_head: bytes) -> None:
        server = WSGIServer(("127.0.0.1", 0), lambda environ, start_response: [])
        server.environ = {**BASE}
        super().__init__(None, ADDRESS, server, rfile=io.BytesIO(request_head))
        self.requestline = self.read_requestline()
        assert self.read_request(self.requestline)

    def log_error(self, msg: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (None, ["Origin: https://a.example", "Cookie: a=1", "Cookie: b=2", "X-Many: 1", "X-Many: 2"]),
        (
            "GET /a%20b/%C3%BC?x=%20&y=/?z HTTP/1.1",
            ["X-Empty:", "X-Space:   a b  ", "X_Space: other", "Authorization: Bearer x.y"],
        ),
        ("POST / HTTP/1.1", ["X-Latin: \xfc", "Content-Type: text/plain", "Content-Length: 12"]),
    ],
)
def test_it_reads_as_pywsgi_does(first: str | None, more: list[str]) -> None:
    request_head = head(*more, first=first)
    ours, theirs = environ_of(parse_head(request_head), ADDRESS, BASE), Pywsgi(request_head).get_environ()
    assert {name for name in ours if name.startswith("CONTENT_")} == {
        name for name, value in theirs.items() if name.startswith("CONTENT_") and value
    }
    for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT"):
        assert ours[name] == theirs[name], name
    headers = {name: value for name, value in theirs.items() if name.startswith("HTTP_")}
    assert {name: value for name, value in ours.items() if name.startswith("HTTP_")} == headers


def test_the_101() -> None:
    """RFC 6455, section 1.3, has this key and its answer."""
    answer = switching(" dGhlIHNhbXBsZSBub25jZQ== ")
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_a_duplicate_is_the_kernels_own_and_outlives_gevents() -> None:
    near, far = gevent_socket.socketpair()
    ours: Any = duplicate(near)
    near.close()
    try:
        assert not isinstance(ours, (gevent_socket.socket, socket.socket)) and ours.gettimeout() == 0
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        far.sendall(b"still here")
        assert ours.recv(100) == b"still here"
    finally:
        ours.close()
        assert far.recv(1) == b""
        far.close()


def test_a_kernel_socket_owns_its_descriptor() -> None:
    near, far = socket.socketpair()
    ours = kernel_socket(near.detach(), socket.AF_UNIX)
    far.close()
    assert ours.recv(1) == b""
    ours.close()
    assert ours.fileno() == -1
