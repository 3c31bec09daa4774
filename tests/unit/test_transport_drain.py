"""Draining a server in this process: evenly, also what began just before, and no longer than it may take."""

from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from mintflow_realtime.transport.worker.drain import drain
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, Node, WebSocket, serving, until

TIMES = 0.5


def drained(node: Node, seconds: float = 0.0, within: float = 5.0) -> Any:
    return gevent.spawn(drain, [node.server], node.engine, seconds, within)


def test_sessions_end_evenly_and_the_caller_is_called_all_the_while() -> None:
    ends: list[float] = []
    calls: list[float] = []
    with serving() as node:
        for _ in range(20):
            node.polling_session()
        node.engine.on("disconnect", lambda sid, reason: ends.append(monotonic()))
        began = monotonic()
        assert drain([node.server], node.engine, TIMES, 5, lambda: calls.append(monotonic()))
        assert TIMES * 0.8 < monotonic() - began < TIMES + 1
        assert len(ends) == 20 and node.engine.sockets == {}
        assert sum(end < began + TIMES / 2 for end in ends) in range(6, 15)
        assert len(calls) > 5 and max(b - a for a, b in zip(calls, calls[1:], strict=False)) < 0.3


def test_nobody_is_let_in_and_nothing_new_is_accepted() -> None:
    with serving() as node, node.connect() as one, node.connect() as two, node.connect() as idle:
        for http in (one, two, idle):
            assert http.get("/").status == 404
        held = Event()
        node.engine.on("disconnect", lambda sid, reason: held.wait())
        node.polling_session()
        draining = drained(node)
        until(lambda: node.engine.draining)
        with pytest.raises(ConnectionRefusedError):
            Http(node.port)
        for http, target, headers in ((one, PATH + POLLING, {}), (two, PATH + WEBSOCKET, UPGRADE)):
            answer = http.get(target, **headers)
            assert answer.status == 503 and answer.headers["connection"] == "close" and http.at_end()
        assert not draining.ready()
        held.set()
        assert draining.get(timeout=5) is True
        assert idle.at_end(1) and not node.engine.poller


def test_who_was_accepted_just_before_is_answered_still() -> None:
    with serving() as node, node.connect() as late, node.connect() as silent:
        until(lambda: len(node.server._pending) == 2)
        draining = drained(node)
        until(lambda: node.engine.draining)
        # Longer than the first look at who rests.
        gevent.sleep(0.2)
        assert late.get("/").status == 404 and late.at_end()
        assert draining.get(timeout=5) is True
        assert silent.at_end(1) and not node.engine.poller


def test_a_session_whose_handshake_had_passed_is_closed_too() -> None:
    asked, go = Event(), Event()

    def accepting() -> bool:
        asked.set()
        return go.wait() is not None

    with serving(accepting=accepting) as node, node.connect() as slow:
        slow.send("GET", PATH + POLLING)
        asked.wait()
        draining = drained(node)
        until(lambda: node.engine.draining)
        go.set()
        assert slow.response().status == 503
        assert draining.get(timeout=5) is True


def test_a_session_that_began_since_is_closed_too() -> None:
    first = Event()
    with serving() as node, node.connect() as kept:
        one = node.polling_session()
        node.engine.on("disconnect", lambda sid, reason: first.wait())
        assert kept.get("/").status == 404
        draining = drained(node)
        until(lambda: node.engine.sockets[one].closing)
        node.engine.draining = False
        assert kept.get(PATH + POLLING).status == 200
        until(lambda: all(session.closing for session in node.engine.sockets.values()))
        first.set()
        assert draining.get(timeout=5) is True


def test_what_waits_for_a_client_is_sent_before_it_is_over() -> None:
    with serving(outbox_bytes=8_000_000) as node, WebSocket(node.port) as ws:
        ws.read()
        for number in range(100):
            node.engine.send(next(iter(node.engine.sockets)), f"{number} ".ljust(70_000))
        draining = drained(node)
        until(lambda: not node.engine.sockets)
        assert not draining.ready(), "its handlers have run, its bytes are not all sent"
        heard = [ws.read() for _ in range(101)]
        assert [text[1:4].split()[0] for _, text in heard[:100]] == [str(number) for number in range(100)]
        assert heard[100] == (8, "1001")
        ws.write("", opcode=8)
        assert draining.get(timeout=2) is True


def test_a_request_is_answered_before_it_is_over() -> None:
    with serving() as node, node.connect() as http:
        go = Event()
        plain = node.server.application
        node.server.application = lambda environ, start_response: (go.wait(), plain(environ, start_response))[1]
        http.send("GET", "/")
        until(lambda: node.server.busy)
        draining = drained(node)
        gevent.sleep(0.2)
        assert not draining.ready()
        go.set()
        answer = http.response()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert draining.get(timeout=5) is True


@pytest.mark.parametrize("stuck", ["handler", "request"])
def test_it_ends_in_its_time_whatever_hangs(stuck: str, caplog: pytest.LogCaptureFixture) -> None:
    go = Event()
    with serving() as node, node.connect() as http:
        if stuck == "handler":
            node.engine.on("disconnect", lambda sid, reason: go.wait())
            node.polling_session()
        else:
            node.server.application = lambda environ, start_response: go.wait()
            http.send("GET", "/")
            until(lambda: node.server.busy)
        began = monotonic()
        assert drain([node.server], node.engine, 0.0, 0.5) is False
        assert 0.4 < monotonic() - began < 1.0
        assert "left" in caplog.text
        go.set()


def test_all_of_it_has_the_time_that_is_given_even_if_that_is_less_than_wished() -> None:
    with serving() as node:
        for _ in range(5):
            node.polling_session()
        began = monotonic()
        assert drain([node.server], node.engine, 60.0, 0.4) is True
        assert monotonic() - began < 1.0
