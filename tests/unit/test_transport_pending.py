"""Connections that have not said what they want: no greenlet waits for them, and they have bounds."""

from time import monotonic

import pytest

from mintflow_realtime.transport.http import pending as arrival
from mintflow_realtime.transport.http import server as listener
from mintflow_realtime.transport.http.head_reader import HEAD_BYTES
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, serving, until

WEBSOCKET_HEAD = "\r\n".join(
    [
        f"GET {PATH}{WEBSOCKET} HTTP/1.1",
        "Host: a",
        *(f"{name.replace('_', '-')}: {value}" for name, value in UPGRADE.items()),
        "",
        "",
    ]
).encode()
HTTP_HEAD = f"GET {PATH}{POLLING} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.mark.parametrize("head", [WEBSOCKET_HEAD, HTTP_HEAD])
def test_a_head_cut_anywhere_is_waited_for_without_a_greenlet(head: bytes) -> None:
    with serving() as node:
        for split in (*range(1, len(head), 7), len(head) - 1):
            with Http(node.port) as http:
                http.socket.sendall(head[:split])
                until(lambda: len(node.engine.poller) == 1)
                assert len(node.server.pool) == 0 and len(node.engine.greenlets) == 0
                http.socket.sendall(head[split:])
                assert http.response().status == (101 if head is WEBSOCKET_HEAD else 200)
            for sid in list(node.engine.sockets):
                node.engine.close_transport(sid, "next")
            until(lambda: not node.engine.poller and not node.engine.sockets)


def test_what_comes_right_behind_a_head_is_not_lost() -> None:
    """Row 42."""
    with serving() as node, Http(node.port) as http:
        http.socket.sendall(WEBSOCKET_HEAD + b"\x81\x83\0\0\0\0" + b"4hi" + b"\x81\x83\0\0\0\0" + b"4h")
        assert http.response().status == 101
        http.socket.sendall(b"o")
        until(lambda: node.named("message") == ["hi", "ho"])
    with serving() as node, Http(node.port) as http:
        http.socket.sendall(HTTP_HEAD * 3)
        assert [http.response().status for _ in range(3)] == [200] * 3


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo"])
def test_who_says_nothing_is_dropped_and_who_leaves_is_forgotten(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "HEAD_SECONDS", 0.2)
    with serving() as node:
        with Http(node.port) as http:
            began = monotonic()
            http.socket.sendall(sent)
            assert http.at_end() and 0.15 < monotonic() - began < 0.6
        with Http(node.port) as http:
            http.socket.sendall(sent)
            until(lambda: len(node.engine.poller) == 1)
        until(lambda: not node.engine.poller and not node.server._pending)


def test_a_head_that_is_too_long_is_told_so() -> None:
    with serving() as node:
        for end in (b"", b"\r\n\r\n"):
            with Http(node.port) as http:
                http.socket.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES + end)
                assert http.response().status == 431 and http.at_end()
        until(lambda: not node.engine.poller)


def test_of_too_many_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_PENDING", 3)
    with serving() as node:
        waiting = [Http(node.port) for _ in range(3)]
        until(lambda: len(node.server._pending) == 3)
        with Http(node.port) as late:
            assert waiting[0].at_end(1)
            late.send("GET", "/")
            assert late.response().status == 404
            waiting[1].send("GET", "/")
            assert waiting[1].response().status == 404
        for http in waiting:
            http.close()
        until(lambda: not node.engine.poller)
