"""Reading a WebSocket request's head without pywsgi: what it makes of one, and which it leaves to pywsgi."""

import io
import socket
from typing import Any

import pytest
from gevent import socket as gevent_socket
from gevent.pywsgi import WSGIHandler, WSGIServer

from transport.opening import asks_for_websocket, duplicate, environ_of, kernel_socket, switching
from transport.requests import is_websocket_handshake

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
    "more",
    [
        ["upgrade: WebSocket"],
        ["UPGRADE:websocket"],
        ["Upgrade: \t websocket \t"],
    ],
)
def test_a_head_that_may_ask_for_a_websocket(more: list[str]) -> None:
    lines = [line for line in LINES if not line.startswith("Upgrade")]
    assert asks_for_websocket("\r\n".join([*lines, *more, "", ""]).encode())
    assert asks_for_websocket("\n".join([*lines, *more, "", ""]).encode())


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"GET /?Upgrade:websocket HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Upgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websockets\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_a_head_that_does_not(request_head: bytes) -> None:
    assert not asks_for_websocket(request_head)


def test_an_environ_is_what_the_handshake_needs() -> None:
    environ = environ_of(head(), ADDRESS, BASE)
    assert environ is not None and is_websocket_handshake(environ)
    assert environ["SERVER_NAME"] == "here" and environ["REQUEST_METHOD"] == "GET"
    assert BASE["REQUEST_METHOD"] == "old", "the base is everybody's"
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("127.0.0.1", "4711")
    assert "REMOTE_ADDR" not in (environ_of(head(), "", BASE) or {})


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
    ours, theirs = environ_of(request_head, ADDRESS, BASE), Pywsgi(request_head).get_environ()
    assert ours is not None
    assert {name for name in ours if name.startswith("CONTENT_")} == {
        name for name, value in theirs.items() if name.startswith("CONTENT_") and value
    }
    for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT"):
        assert ours[name] == theirs[name], name
    headers = {name: value for name, value in theirs.items() if name.startswith("HTTP_")}
    assert {name: value for name, value in ours.items() if name.startswith("HTTP_")} == headers


@pytest.mark.parametrize(
    "request_head",
    [
        head(first="GET /socket.io/"),
        head(first="GET  /socket.io/ HTTP/1.1"),
        head(first="GET http://a.example/socket.io/ HTTP/1.1"),
        head(first="GET socket.io HTTP/1.1"),
        head(first="GET / HTTP/1.0"),
        head(first="GET / HTTP/2"),
        head().replace(b"Host", b"X-Host"),
        head("Content-Length: 3", "Content-Length: 3"),
        head("Content-Length: -1"),
        head("Content-Length: 1_0"),
        head("Content-Length: +1"),
        head("Content-Length:"),
        head("Content-Length: \xb2"),
        head("Content-Length: 1000000000000000000000"),
        head("Transfer-Encoding: chunked"),
        head("Expect: 100-continue"),
        head("Trailer: x"),
        head("no colon"),
        head(": no name"),
        head("Na me: x"),
        head("Name : x"),
        head("Name: a\0b"),
        head("Name: a", " folded"),
        head("Name: a\nOther: b"),
        head("Name: a\rOther: b"),
        head("\xfcmlaut: x"),
        head()[:-2],
        head().replace(b"\r\n", b"\n"),
    ],
)
def test_what_is_not_plainly_a_request_is_left_to_pywsgi(request_head: bytes) -> None:
    assert environ_of(request_head, ADDRESS, BASE) is None


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
