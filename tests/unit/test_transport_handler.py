"""HTTP connections: heads and bodies have bounds, and clients that go away leave no traceback."""

import os
import time
from socket import MSG_PEEK
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, masked, serving, until
from transport.handler import DISCARD_BYTES
from transport.head import HEAD_BYTES
from transport.listener import Server
from transport.options import transport_of


def test_a_long_head_is_refused() -> None:
    with serving() as node, node.connect() as http:
        http.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES)
        assert http.response().status == 431
        assert http.at_end()


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_slow_head_is_dropped(earlier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of a connection has no greenlet yet; those after it have."""
    monkeypatch.setattr("transport.arrival.HEAD_SECONDS", 0.1)
    monkeypatch.setattr("transport.head.HeadReader.fill_head.__defaults__", (1.0, 0.1))
    with serving() as node, node.connect() as http:
        for _ in range(earlier):
            assert http.get("/").status == 404
        http.socket.sendall(b"GET / HTTP/1.1\r\n")
        until(lambda: len(node.engine.poller) == 1 - earlier)
        assert http.at_end(2)
        until(lambda: not node.server.pool and not node.engine.poller)


@pytest.mark.parametrize(
    "head", [b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
)
def test_nonsense_is_a_bad_request_without_a_traceback(head: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as node, node.connect() as http:
        http.socket.sendall(head)
        assert http.response().status == 400
        assert http.at_end()
    assert "Traceback" not in capfd.readouterr().err


def test_too_many_headers_are_a_bad_request_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as node, node.connect() as http:
        assert http.get("/", **{f"X{number}": "x" for number in range(200)}).status == 400
    assert "Traceback" not in capfd.readouterr().err


def test_a_body_that_nobody_read_is_discarded_up_to_a_bound() -> None:
    with serving(max_http_buffer_size=100) as node:
        target = f"{PATH}{POLLING}&sid=unknown"
        with node.connect() as http:
            assert http.post(target, b"x" * 500_000).status == 400
            assert http.get(PATH + POLLING).status == 200
        with node.connect() as http:
            http.send("POST", target, b"x" * (DISCARD_BYTES + 20_000), Content_Length=str(2**40))
            assert http.response().status == 400
            assert http.at_end()


def test_a_body_that_was_not_asked_for_is_not_waited_for() -> None:
    with serving() as node, node.connect() as http:
        started = time.monotonic()
        http.send("POST", f"{PATH}{POLLING}&sid=unknown", Expect="100-continue", Content_Length="10")
        assert http.response().status == 400
        assert http.at_end()
        assert time.monotonic() - started < 1


def test_a_broken_chunked_body_ends_the_connection() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        http.send("POST", f"{PATH}{POLLING}&sid={sid}", b"zz\r\nGET / HTTP/1.1\r\n\r\n", Transfer_Encoding="chunked")
        assert http.response().status == 400
        assert http.at_end()
        assert node.named("disconnect") == ["transport error"]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST /nowhere HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"])
def test_clients_that_leave_are_not_errors(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as node:
        http = node.connect()
        http.socket.sendall(sent)
        gevent.sleep(0.02)
        http.close()
        until(lambda: node.server.pool.free_count() == node.server.pool.size)
    captured = capfd.readouterr()
    assert captured.err == captured.out == ""


def test_errors_of_the_application_are_still_reported(capfd: pytest.CaptureFixture[str]) -> None:
    def fail(environ: Any, start_response: Any) -> Any:
        raise OSError("the disk is full")

    with serving() as node, node.connect() as http:
        node.server.application = fail
        assert http.get("/").status == 500
    assert "the disk is full" in capfd.readouterr().err


def test_a_connection_is_kept_alive() -> None:
    with serving() as node, node.connect() as http:
        assert [http.get(PATH + POLLING).status for _ in range(3)] == [200, 200, 200]
        assert node.server.pool.free_count() == node.server.pool.size - 1


def test_an_application_without_options_is_refused() -> None:
    with pytest.raises(TypeError, match="`transport`"):
        Server(("127.0.0.1", 0), lambda environ, start_response: [])
    with pytest.raises(TypeError, match="TransportOptions"):
        transport_of(object())


def test_connections_beyond_the_pool_wait() -> None:
    with serving(pool=1) as node, node.connect() as first:
        assert first.get("/").status == 404
        with Http(node.port) as second:
            second.send("GET", "/")
            second.socket.settimeout(0.1)
            with pytest.raises(TimeoutError):
                second.response()
            first.close()
            second.socket.settimeout(2)
            assert second.response().status == 404


def test_row_42_a_detached_connection_keeps_its_first_bytes() -> None:
    """On a connection that is kept alive, so that it leaves its greenlet, with a frame behind the request and after."""
    with serving() as node, node.connect() as http:
        assert http.get("/").status == 404
        head = ["GET " + PATH + WEBSOCKET + " HTTP/1.1", "Host: localhost"]
        head += [f"{name.replace('_', '-')}: {value}" for name, value in UPGRADE.items()]
        http.socket.sendall("\r\n".join([*head, "", ""]).encode() + masked("4behind"))
        assert http.response().status == 101
        http.socket.sendall(masked("4after"))
        until(lambda: node.named("message") == ["behind", "after"])


def test_row_42_stock_pywsgi_reads_what_a_detached_connection_is_sent() -> None:
    kept: list[socket.socket] = []
    sent = Event()

    def detach(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        handler = start_response.__self__
        kept.append(socket.socket(fileno=os.dup(handler.socket.fileno())))
        start_response("200 OK", [("Content-Length", "0"), ("Connection", "close")])
        sent.wait(5)
        return [b""]

    server = WSGIServer(("127.0.0.1", 0), detach, log=None, error_log=None)
    server.start()
    try:
        with socket.create_connection(server.address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            until(lambda: kept)
            client.sendall(b"first bytes")
            kept[0].setblocking(False)
            until(lambda: _waits(kept[0]) == b"first bytes")
            sent.set()
            until(lambda: not server.pool and not _waits(kept[0]))
    finally:
        server.stop()
        kept[0].close()


def _waits(sock: socket.socket) -> bytes:
    try:
        return sock.recv(64, MSG_PEEK)
    except BlockingIOError:
        return b""
