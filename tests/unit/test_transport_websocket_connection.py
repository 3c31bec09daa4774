"""WebSockets: where they may be opened, how a session moves to one, and that closing one closes its connection."""

from typing import Any

import gevent
import pytest

from mintflow_realtime.transport.engine_io import upgrade
from tests.transport_client import (
    PATH,
    POLLING,
    UPGRADE,
    WEBSOCKET,
    WebSocket,
    handshake,
    serving,
    serving_stock,
    until,
)


@pytest.mark.parametrize(
    ("target", "headers", "status", "stock_status"),
    [
        ("/nowhere" + WEBSOCKET, {}, 404, 101),
        (PATH + "more" + WEBSOCKET, {}, 404, 101),
        (PATH + WEBSOCKET + "&sid=unknown", {}, 400, 101),
        (PATH + "?EIO=3&transport=websocket", {}, 400, 101),
        (PATH + WEBSOCKET, {"Origin": "https://evil.example"}, 403, 101),
        (PATH + WEBSOCKET, {"Sec_WebSocket_Key": "c2hvcnQ="}, 400, None),
        (PATH + WEBSOCKET, {"Sec_WebSocket_Version": "12"}, 426, None),
    ],
)
def test_only_the_socket_path_and_allowed_requests_are_upgraded(
    target: str, headers: dict[str, str], status: int, stock_status: int | None
) -> None:
    with serving(cors_allowed_origins=["https://a.example"]) as node, serving_stock() as stock:
        with node.connect() as http, stock.connect() as stock_http:
            stock.engine.cors_allowed_origins = ["https://a.example"]
            refused = http.get(target, **{**UPGRADE, **headers})
            assert refused.status == status
            assert refused.headers["connection"] == "close"
            assert http.at_end()
            assert node.events == []
            if stock_status is not None:
                assert stock_http.get(target, **{**UPGRADE, **headers}).status == stock_status


def test_an_upgrade_header_alone_does_not_open_a_websocket() -> None:
    with serving() as node, node.connect() as http:
        assert handshake(http.get(PATH + POLLING, **UPGRADE))["upgrades"] == ["websocket"]


def test_a_body_is_read_although_an_upgrade_was_asked_for() -> None:
    with serving() as node, node.connect() as http:
        assert http.post("/nowhere", "12345", **UPGRADE).body == b"nothing here: 5"


def test_a_websocket_session_from_handshake_to_close() -> None:
    with serving() as node, WebSocket(node.port, Origin="https://a.example") as ws:
        opcode, opened = ws.read()
        assert (opcode, opened[:8]) == (1, '0{"sid":')
        sid = next(iter(node.engine.sockets))
        ws.write('42["hello"]')
        until(lambda: node.named("message") == ['2["hello"]'])
        node.engine.send(sid, "x" * 70_000)
        assert ws.read() == (1, "4" + "x" * 70_000)
        ws.write("1")
        assert ws.read()[0] == 8
        assert ws.at_end()
        assert node.named("disconnect") == ["client disconnect"]
        assert node.engine.sockets == {}


@pytest.mark.parametrize("text", ["abc", "", "7", "b!!!="])
def test_garbage_ends_the_connection(text: str) -> None:
    with serving() as node, WebSocket(node.port) as ws:
        ws.read()
        ws.write(text)
        assert ws.read()[0] == 8
        assert ws.at_end()
        assert node.named("disconnect") == ["transport error"]


def test_a_message_of_too_many_bytes_ends_the_connection() -> None:
    with serving(max_http_buffer_size=100) as node, WebSocket(node.port) as ws:
        ws.read()
        ws.write("4" + "ü" * 49)
        until(lambda: node.named("message") == ["ü" * 49])
        ws.write("4" + "ü" * 50)
        assert ws.at_end()
        assert node.named("message") == ["ü" * 49]


def test_a_session_moves_to_a_websocket_with_what_is_queued() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        target = f"{PATH}{POLLING}&sid={sid}"
        http.send("GET", target)
        until(lambda: node.engine.sockets[sid].polling.waiting)
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as late:
                assert late.read() == (8, "1000") and late.at_end()
            ws.write("2probe")
            assert ws.read() == (1, "3probe")
            assert http.response().body == b"6"
            node.engine.send(sid, "queued")
            ws.write("5")
            assert ws.read() == (1, "4queued")
            assert http.get(target).json["code"] == 3
            assert node.engine.transport(sid) == "websocket"
            with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as late:
                assert late.read() == (8, "1000") and late.at_end()
            node.engine.send(sid, "still here")
            assert ws.read() == (1, "4still here")
        until(lambda: node.named("disconnect") == ["transport close"])


@pytest.mark.parametrize("answers", [["wrong"], ["2probe", "wrong"], ["2probe"], []])
def test_a_failed_upgrade_goes_back_to_polling(answers: list[str]) -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        node.engine.send(sid, "one")
        ws = WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}")
        for answer in answers:
            ws.write(answer)
        if answers[:1] == ["2probe"]:
            assert ws.read() == (1, "3probe")
        ws.close()
        until(lambda: not node.engine.sockets[sid].upgrading)
        node.engine.send(sid, "two")
        assert http.get(f"{PATH}{POLLING}&sid={sid}").body == b"4one\x1e4two"
        http.send("GET", f"{PATH}{POLLING}&sid={sid}")
        gevent.sleep(0.05)
        node.engine.send(sid, "three")
        assert http.response().body == b"4three"
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as again:
            again.write("2probe")
            assert again.read() == (1, "3probe")


def test_stock_answers_noop_for_ever_after_a_failed_upgrade() -> None:
    with serving_stock() as stock, stock.connect() as http:
        sid = handshake(http.get(PATH + POLLING))["sid"]
        stock.engine.send(sid, "one")
        ws = WebSocket(stock.port, f"{PATH}{WEBSOCKET}&sid={sid}")
        ws.write("2probe")
        assert ws.read() == (1, "3probe")
        ws.write("wrong")
        assert ws.at_end()
        ws.close()
        for _ in range(3):
            assert http.get(f"{PATH}{POLLING}&sid={sid}").body == b"6"


def test_polls_during_a_probe_bring_packets_and_do_not_spin() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        target = f"{PATH}{POLLING}&sid={sid}"
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            ws.write("2probe")
            assert ws.read() == (1, "3probe")
            with gevent.Timeout(1):
                assert http.get(target).body == b"6"
            node.engine.send(sid, "meanwhile")
            assert http.get(target).body == b"4meanwhile"
            ws.write("5")
            node.engine.send(sid, "after")
            assert ws.read() == (1, "4after")


def test_a_probe_that_goes_nowhere_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_SECONDS", 0.05)
    with serving() as node:
        sid = node.polling_session()
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            assert ws.at_end()
        assert not node.engine.sockets[sid].upgrading


@pytest.mark.parametrize("answering", [True, False])
def test_close_transport_ends_the_tcp_connection(answering: bool) -> None:
    with serving() as node, WebSocket(node.port) as ws:
        ws.read()
        sid = next(iter(node.engine.sockets))
        node.engine.send(sid, "last")
        node.engine.close_transport(sid, "revoked")
        assert ws.read() == (1, "4last")
        assert ws.read() == (8, "1000")
        with gevent.Timeout(0.5 if answering else 2):
            if answering:
                ws.write("", opcode=8)
            assert ws.at_end()
        until(lambda: node.engine.sockets == {} and not node.engine.poller)
        assert node.named("disconnect") == ["revoked"]


def test_stock_leaves_the_tcp_connection_of_a_closed_websocket_open() -> None:
    with serving_stock() as stock, WebSocket(stock.port) as ws:
        ws.read()
        gevent.spawn(stock.engine.disconnect, next(iter(stock.engine.sockets)))
        assert not ws.at_end(1.5)


def test_a_client_that_reads_nothing_is_closed_too() -> None:
    with serving() as node, WebSocket(node.port) as ws:
        ws.read()
        sid = next(iter(node.engine.sockets))
        for _ in range(100):
            node.engine.send(sid, "x" * 100_000)
        node.engine.close_transport(sid, "slow")
        until(lambda: not node.engine.poller, 3)


def test_a_disconnect_handler_that_blocks_does_not_keep_the_connection() -> None:
    def block(sid: str, reason: Any) -> None:
        released.wait()

    released = gevent.event.Event()
    with serving() as node, WebSocket(node.port) as ws:
        ws.read()
        node.engine.on("disconnect", block)
        node.engine.close_transport(next(iter(node.engine.sockets)), "revoked")
        assert ws.read() == (8, "1000")
        assert ws.at_end(2)
        assert node.engine.sockets and not node.engine.poller
        released.set()
        until(lambda: not node.engine.sockets)


def test_pings_go_out_and_silence_ends_the_connection() -> None:
    with serving(ping_interval=0.05, ping_timeout=0.1) as node, WebSocket(node.port) as ws:
        ws.read()
        for _ in range(5):
            assert ws.read() == (1, "2")
            ws.write("3")
        assert ws.read() == (1, "2")
        assert ws.at_end()
        assert node.named("disconnect") == ["ping timeout"]
