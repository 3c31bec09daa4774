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

from mintflow_realtime.transport.http.exchange import DISCARD_BYTES
from mintflow_realtime.transport.http.head_reader import HEAD_BYTES
from mintflow_realtime.transport.worker.options import transport_of
from mintflow_realtime.transport.worker.server import Server
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, masked, serving, until


def test_a_long_head_is_refused() -> None:
    with serving() as node, node.connect() as http:
        http.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES)
        assert http.response().status == 431
        assert http.at_end()


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_slow_head_is_dropped(earlier: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one of a connection has no greenlet yet; those after it have."""
    monkeypatch.setattr("mintflow_realtime.transport.http.pending.HEAD_SECONDS", 0.1)
    monkeypatch.setattr("mintflow_realtime.transport.http.head_reader.HeadReader.fill_head.__defaults__", (1.0, 0.1))
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


def test_many_headers_are_bounded_by_their_bytes_and_leave_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as node, node.connect() as http:
        assert http.get("/", **{f"X{number}": "x" for number in range(200)}).status == 404
        assert http.get("/", **{f"X{number}": "x" * 100 for number in range(200)}).status == 431
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


def test_idle_connections_give_way_to_requests() -> None:
    with serving(pool=3) as node:
        idle = [node.connect() for _ in range(3)]
        for http in idle:
            assert http.get("/").status == 404
        until(lambda: len(node.server.pool) == 3)
        with node.connect() as late:
            assert late.get("/").status == 404
        assert idle[0].at_end(1), "the one that has waited longest"
        assert idle[2].get("/").status == 404
        for http in idle:
            http.close()


def test_a_connection_is_kept_for_as_long_as_the_server_says() -> None:
    with serving() as node, node.connect() as http:
        node.server.keep_alive = 0.2
        assert http.get("/").status == 404
        began = time.monotonic()
        assert http.at_end() and 0.15 < time.monotonic() - began < 2


@pytest.mark.parametrize("path", ["/", "poll"])
def test_a_body_that_trickles_has_a_deadline_for_the_whole(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.head_reader.SLOW_BODY_SECONDS", 0.5)
    with serving() as node, node.connect() as http:
        target = path if path == "/" else f"{PATH}{POLLING}&sid={node.polling_session()}"
        http.send("POST", target, b"4", Content_Length="1000")
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 5:
                gevent.sleep(0.05)
                http.socket.sendall(b"4")
        assert 0.4 < time.monotonic() - began < 3
        until(lambda: not node.server.pool)


def test_a_body_that_comes_at_a_decent_rate_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.head_reader.SLOW_BODY_SECONDS", 0.3)
    with serving() as node, node.connect() as http:
        http.send("POST", "/", b"", Content_Length="40000")
        for _ in range(20):
            http.socket.sendall(b"x" * 2000)
            gevent.sleep(0.05)
        assert http.response().body == b"nothing here: 40000"


def test_a_body_ends_with_its_session() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        http.send("POST", f"{PATH}{POLLING}&sid={sid}", b"4a", Content_Length="1000")
        until(lambda: len(node.server.pool) == 1)
        node.engine.close_transport(sid)
        until(lambda: not node.server.pool)
        assert node.named("message") == []


def test_every_answer_on_the_sockets_path_is_not_to_be_stored() -> None:
    with serving() as node, node.connect() as http:
        for method, target in (
            ("GET", PATH + POLLING),
            ("GET", PATH + "?EIO=3&transport=polling"),
            ("GET", PATH + POLLING + "&sid=unknown"),
            ("POST", PATH + POLLING + "&sid=unknown"),
            ("OPTIONS", PATH),
        ):
            assert http.request(method, target).headers["cache-control"] == "no-store", (method, target)


def test_a_poll_after_the_deadline_of_a_ping_is_too_late() -> None:
    """The timer's step may come up to 50 ms later; the answer must not depend on it."""
    with serving(ping_interval=0.1, ping_timeout=0.5) as node, node.connect() as http:
        sid = node.polling_session()
        session = node.engine.sockets[sid]
        assert http.get(f"{PATH}{POLLING}&sid={sid}").body == b"2"
        node.engine.timers.cancel(session._timer)
        until(lambda: session.overdue)
        answer = http.get(f"{PATH}{POLLING}&sid={sid}")
        assert answer.status == 400 and answer.json["code"] == 1
        until(lambda: node.named("disconnect") == ["ping timeout"])


def test_who_takes_too_little_of_an_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.handler.SEND_SECONDS", 0.1)
    closed = Event()

    def endless(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    with serving() as node, node.connect() as http:
        node.server.application = endless
        http.send("GET", "/")
        assert closed.wait(10)
        until(lambda: node.server.pool.free_count() == node.server.pool.size)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("version", "whole"), [("1.1", True), ("1.1", False), ("1.0", True), ("1.0", False)])
def test_an_answer_that_is_cut_never_looks_whole(version: str, whole: bool) -> None:
    def answer(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"abc"
        if not whole:
            raise ConnectionAbortedError("Cut")

    with serving() as node, node.connect() as http:
        node.server.application = answer
        http.socket.sendall(f"GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received, ended = b"", False
        try:
            while chunk := http.socket.recv(4096):
                received += chunk
            ended = True
        except ConnectionResetError:
            pass
    if version == "1.0":
        # Whose client may not get what was sent before a reset.
        assert ended is whole
    else:
        assert ended and received.endswith(b"3\r\nabc\r\n0\r\n\r\n" if whole else b"3\r\nabc\r\n")
