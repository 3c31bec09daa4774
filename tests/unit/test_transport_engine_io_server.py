"""Polling as the Engine.IO protocol describes it, and what the library does instead."""

import re
from typing import Any

import gevent
import pytest

from mintflow_realtime.transport.engine_io.packet import MalformedPacket
from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.engine_io.session_id import SID_PATTERN
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, handshake, serving, serving_stock, until

REFUSALS = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    5: "Unsupported protocol version",
}


def test_ids_name_their_worker_and_are_never_the_same() -> None:
    engine = EngineServer(node_tag="0123abcd")
    ids = {engine.generate_id() for _ in range(100)}
    assert len(ids) == 100
    assert {re.match(SID_PATTERN, sid).group(1) for sid in ids} == {"0123abcd"}  # type: ignore[union-attr]
    assert EngineServer().node_tag != EngineServer().node_tag


@pytest.mark.parametrize(
    ("method", "query", "code"),
    [
        ("GET", "?EIO=4&transport=abc", 0),
        ("GET", "?EIO=4", 0),
        ("GET", "?EIO=4&transport=polling&sid=abc", 1),
        ("POST", "?EIO=4&transport=polling&sid=abc", 1),
        ("GET", "?EIO=4&transport=websocket&sid=abc", 1),
        ("POST", "?EIO=4&transport=polling", 2),
        ("PUT", "?EIO=4&transport=polling", 2),
        ("GET", "?EIO=4&transport=websocket", 3),
        ("GET", "?transport=polling", 5),
        ("GET", "?EIO=3&transport=polling", 5),
    ],
)
def test_refusals_have_the_codes_of_nodes_server(method: str, query: str, code: int) -> None:
    with serving() as node, node.connect() as http:
        refused = http.request(method, PATH + query, "" if method != "GET" else None)
        assert (refused.status, refused.json) == (400, {"code": code, "message": REFUSALS[code]})
        assert refused.headers["access-control-allow-origin"] == "*"
        assert node.events == [] and node.engine.sockets == {}


def test_jsonp_is_refused() -> None:
    with serving() as node, serving_stock() as stock, node.connect() as http, stock.connect() as stock_http:
        for query in ("&j=0", "&j=", "&j=abc"):
            assert http.get(PATH + POLLING + query).json["code"] == 3
        assert node.engine.sockets == {}
        assert stock_http.get(PATH + POLLING + "&j=0").body.startswith(b"___eio[0](")


def test_the_handshake_has_milliseconds() -> None:
    options: dict[str, Any] = {"ping_interval": 2.5, "ping_timeout": 0.25, "max_http_buffer_size": 4321}
    with serving(**options) as node, serving_stock(**options) as stock:
        with node.connect() as http, stock.connect() as stock_http:
            opened = handshake(http.get(PATH + POLLING))
            assert (opened["pingInterval"], opened["pingTimeout"], opened["maxPayload"]) == (2500, 250, 4321)
            assert opened["upgrades"] == ["websocket"]
            assert handshake(stock_http.get(PATH + POLLING))["pingInterval"] == 2000


def test_a_full_or_closing_node_refuses_new_sessions_and_serves_old_ones() -> None:
    accepting = True
    with serving(max_connections=2, accepting=lambda: accepting) as node, node.connect() as http:
        old = f"{PATH}{POLLING}&sid={node.polling_session()}"
        accepting = False
        assert http.get(PATH + POLLING).status == 503
        accepting = True
        node.polling_session()
        assert http.get(PATH + POLLING).status == 503
        assert http.get(PATH + WEBSOCKET, **UPGRADE).status == 503
        with node.connect() as other:
            assert other.post(old, "4still").status == 200
            other.post(old, "1")
            assert other.get(PATH + POLLING).status == 200


def test_any_number_of_packets_fits_in_a_post() -> None:
    body = "\x1e".join(f"4{number}" for number in range(1000))
    with serving() as node, serving_stock() as stock:
        for server, expected in ((node, [str(number) for number in range(1000)]), (stock, [])):
            with server.connect() as http:
                sid = handshake(http.get(PATH + POLLING))["sid"]
                assert http.post(f"{PATH}{POLLING}&sid={sid}", body).status == 200
                assert server.named("message") == expected


@pytest.mark.parametrize("body", ["", "abc", "4a\x1ex", "4a\x1e", "2probe", "0{}", "b!!!=", "9", b"\xff\xfe", "d=4a"])
def test_garbage_is_refused_and_ends_the_session(body: str | bytes) -> None:
    with serving() as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        assert http.post(target, body).json["code"] == 3
        assert node.named("disconnect") == ["transport error"]
        assert node.engine.sockets == {}
        assert http.post(target, "4a").json["code"] == 1


def test_stock_accepts_garbage_and_loses_it() -> None:
    with serving_stock() as stock, stock.connect() as http:
        target = f"{PATH}{POLLING}&sid={handshake(http.get(PATH + POLLING))['sid']}"
        assert http.post(target, "abc").status == 200
        assert stock.named("disconnect") == []


@pytest.mark.parametrize("error", [ValueError("a bug"), MalformedPacket("from the message handler")])
def test_an_error_while_a_message_is_handled_is_never_a_200(error: Exception) -> None:
    def fail(sid: str, message: str) -> None:
        raise error

    with serving() as node, serving_stock() as stock:
        for server, status, ended in ((node, 400, ["transport error"]), (stock, 200, [])):
            server.engine.on("message", fail)
            with server.connect() as http:
                sid = handshake(http.get(PATH + POLLING))["sid"]
                assert http.post(f"{PATH}{POLLING}&sid={sid}", "4a").status == status
                assert server.named("disconnect") == ended


def test_a_session_that_its_message_handler_closes_is_not_answered_200() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        node.engine.on("message", lambda sid, message: node.engine.close_transport(sid, "no"))
        assert http.post(f"{PATH}{POLLING}&sid={sid}", "4a").status == 400


def test_messages_are_text_and_bytes_as_they_came() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        http.post(f"{PATH}{POLLING}&sid={sid}", '4{"a":1}\x1ebAAEC\x1e4[[[\x1e42["x"]', Content_Type="application/xml")
        assert node.named("message") == ['{"a":1}', b"\0\1\2", "[[[", '2["x"]']
        node.engine.send(sid, b"\3\4")
        node.engine.send(sid, "grüße")
        assert http.get(f"{PATH}{POLLING}&sid={sid}").body.decode() == "bAwQ=\x1e4grüße"


@pytest.mark.parametrize("size", [100, 101])
def test_the_size_of_a_post_is_counted_in_bytes(size: int) -> None:
    body = "4" + "ü" * 49 + "x" * (size - 99)
    with serving(max_http_buffer_size=100) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        assert http.post(target, body).status == (200 if size == 100 else 413)
        assert len(node.engine.sockets) == (1 if size == 100 else 0)


def test_a_body_that_announces_too_much_is_refused_before_it_comes() -> None:
    with serving(max_http_buffer_size=100) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        http.send("POST", target, Content_Length="8589934592")
        assert http.response().status == 413


@pytest.mark.parametrize(("chunks", "status"), [(1, 200), (50, 413)])
def test_a_chunked_body_is_bounded_too(chunks: int, status: int) -> None:
    with serving(max_http_buffer_size=100) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        body = b"b\r\n4hello worl\r\n" * chunks + b"0\r\n\r\n"
        assert http.post(target, body, Transfer_Encoding="chunked").status == status


def test_a_second_poll_closes_the_session() -> None:
    with serving() as node, serving_stock() as stock, node.connect() as one, node.connect() as two:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        one.send("GET", target)
        until(lambda: next(iter(node.engine.sockets.values())).polling.waiting)
        assert two.get(target).json["code"] == 3
        closed = one.response()
        assert (closed.status, closed.body) == (200, b"1")
        assert one.get(target).json["code"] == 1
        assert node.named("disconnect") == ["transport error"]
        with stock.connect() as stock_one, stock.connect() as stock_two:
            target = f"{PATH}{POLLING}&sid={handshake(stock_one.get(PATH + POLLING))['sid']}"
            stock_one.send("GET", target)
            stock_two.send("GET", target)
            stock_two.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                stock_two.response()


def test_a_second_post_closes_the_session() -> None:
    with serving() as node, node.connect() as one, node.connect() as two:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        one.send("POST", target, Content_Length="10")
        until(lambda: next(iter(node.engine.sockets.values())).polling._posting)
        assert two.post(target, "4a").status == 400
        assert node.engine.sockets == {}


def test_a_cancelled_poll_closes_the_session() -> None:
    with serving() as node, serving_stock() as stock:
        for server, sessions in ((node, 0), (stock, 1)):
            with server.connect() as http:
                sid = handshake(http.get(PATH + POLLING))["sid"]
            with server.connect() as http:
                http.send("GET", f"{PATH}{POLLING}&sid={sid}")
                gevent.sleep(0.05)
            gevent.sleep(0.1)
            assert len(server.engine.sockets) == sessions
        assert node.named("disconnect") == ["transport error"]


def test_packets_that_could_not_be_written_end_the_session() -> None:
    with serving(outbox_bytes=20_000_000) as node, node.connect() as http:
        sid = node.polling_session()
        # One poll carries 16 packets; together they are more than the kernel's buffers take.
        for _ in range(16):
            node.engine.send(sid, "x" * 900_000)
        http.send("GET", f"{PATH}{POLLING}&sid={sid}")
        http.exactly(1000)
        http.close()
        until(lambda: node.named("disconnect") == ["transport error"])


def test_a_session_without_pongs_ends_while_it_polls() -> None:
    with serving(ping_interval=0.05, ping_timeout=0.6) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        assert http.get(target).body == b"2"
        http.send("GET", target)
        assert http.response().body == b"6"
        assert http.get(target).json["code"] == 1
        assert node.named("disconnect") == ["ping timeout"]
        assert node.engine.sockets == {}


def test_a_poll_that_loses_patience_is_answered_like_one_that_is_ended() -> None:
    with serving(ping_interval=30, ping_timeout=30) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        node.engine.ping_interval = node.engine.ping_timeout = 0.1
        http.send("GET", target)
        assert http.response().body == b"6"
        assert http.get(target).json["code"] == 1
        assert node.named("disconnect") == ["ping timeout"] and node.engine.sockets == {}


def test_pongs_keep_a_session() -> None:
    with serving(ping_interval=0.05, ping_timeout=0.1) as node, node.connect() as http:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        for _ in range(6):
            assert http.get(target).body == b"2"
            assert http.post(target, "3").status == 200


def test_a_client_that_closes_ends_its_poll_with_a_noop() -> None:
    with serving() as node, node.connect() as one, node.connect() as two:
        target = f"{PATH}{POLLING}&sid={node.polling_session()}"
        one.send("GET", target)
        until(lambda: next(iter(node.engine.sockets.values())).polling.waiting)
        closed = two.post(target, "1")
        assert (closed.status, closed.body) == (200, b"ok")
        assert one.response().body == b"6"
        assert node.named("disconnect") == ["client disconnect"]


def test_close_transport_answers_the_poll_at_once_and_runs_the_handlers() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        http.send("GET", f"{PATH}{POLLING}&sid={sid}")
        until(lambda: node.engine.sockets[sid].polling.waiting)
        node.engine.send(sid, "last")
        node.engine.close_transport(sid, "revoked")
        assert http.response().body == b"4last"
        until(lambda: node.engine.sockets == {})
        assert node.named("disconnect") == ["revoked"]
        node.engine.close_transport(sid, "again")
        assert node.named("disconnect") == ["revoked"]


def test_the_session_can_be_read_while_its_disconnect_handler_runs() -> None:
    seen: list[Any] = []
    with serving() as node:
        sid = node.polling_session()
        node.engine.save_session(sid, {"user": "u"})
        node.engine.on("disconnect", lambda sid, reason: seen.append(node.engine.get_session(sid)))
        node.engine.close_transport(sid, "x")
        until(lambda: not node.engine.sockets)
    assert seen == [{"user": "u"}]


def test_who_joins_nothing_is_closed() -> None:
    with serving(connect_timeout=0.1) as node, serving_stock() as stock:
        quiet, joined, back = (node.polling_session() for _ in range(3))
        stock.engine.connect_timeout = 0.1
        with stock.connect() as http:
            handshake(http.get(PATH + POLLING))
        node.engine.joined(joined)
        node.engine.joined(back)
        until(lambda: quiet not in node.engine.sockets)
        gevent.sleep(0.1)
        assert set(node.engine.sockets) == {joined, back}
        assert len(stock.engine.sockets) == 1
        node.engine.left(back)
        until(lambda: back not in node.engine.sockets)
        node.engine.joined("gone")
        node.engine.left("gone")


def test_a_connect_handler_that_fails_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(sid: str, environ: Any) -> None:
        raise RuntimeError("no")

    with serving() as node, node.connect() as http, node.connect() as websocket:
        node.engine.on("connect", fail)
        assert http.get(PATH + POLLING).status == 500
        websocket.send("GET", PATH + WEBSOCKET, **UPGRADE)
        assert websocket.at_end(1)
        assert node.engine.sockets == {} and not node.engine.poller
        assert "RuntimeError: no" in caplog.text


def test_a_large_answer_is_compressed_where_the_client_can_read_it() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        node.engine.send(sid, "x" * 5000)
        answer = http.get(f"{PATH}{POLLING}&sid={sid}", Accept_Encoding="br, gzip;q=1")
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.body) < 200


def preflight(http: Http, origin: str) -> Any:
    return http.request(
        "OPTIONS",
        PATH + POLLING,
        Origin=origin,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type, x-token",
    )


def test_every_origin_gets_a_star_and_never_credentials() -> None:
    with serving(cors_credentials=True, cors_methods="get,post") as node, serving_stock() as stock:
        with node.connect() as http, stock.connect() as stock_http:
            for answer in (http.get(PATH + POLLING, Origin="https://a.example"), preflight(http, "https://a.example")):
                assert answer.headers["access-control-allow-origin"] == "*"
                assert "access-control-allow-credentials" not in answer.headers
            assert answer.status == 204
            assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
            assert answer.headers["access-control-allow-headers"] == "content-type, x-token"
            reflected = stock_http.get(PATH + POLLING, Origin="https://a.example").headers
            assert reflected["access-control-allow-origin"] == "https://a.example"
            assert reflected["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("credentials", [True, False])
def test_listed_origins_are_reflected_and_others_refused(credentials: bool) -> None:
    allowed = ["https://a.example", "https://b.example"]
    with serving(cors_allowed_origins=allowed, cors_credentials=credentials) as node, node.connect() as http:
        answer = http.get(PATH + POLLING, Origin="https://b.example")
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        assert ("access-control-allow-credentials" in answer.headers) is credentials
        assert answer.headers["vary"] == "Origin"
        for refused in (http.get(PATH + POLLING, Origin="https://c.example"), preflight(http, "https://c.example")):
            assert "access-control-allow-origin" not in refused.headers
        assert http.get(PATH + POLLING, Origin="https://c.example").json == {"code": 4, "message": "Forbidden"}
        assert http.get(PATH + POLLING).status == 200


def test_header_names_that_are_not_names_are_not_reflected() -> None:
    with serving() as node, node.connect() as http:
        answer = http.request("OPTIONS", PATH, Access_Control_Request_Headers="a b; c")
        assert "access-control-allow-headers" not in answer.headers
