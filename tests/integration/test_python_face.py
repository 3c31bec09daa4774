"""An existing Flask app with realtime: its own routes, namespaces of both kinds, publishing and emitting from views."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import socketio
from werkzeug.test import Client as WsgiClient

from tests.servers import Node, RedisServer, run_js, stopping, token, until
from tests.tls import TlsServer
from tests.watcher import Watcher

BOARD = "tests.integration.apps.board:application"
# A socket that nobody could have promised a message to: 1 s without one is enough on a machine of its own.
SETTLED = 0.5


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node]]:
    """Two nodes of the same application on one Redis."""
    redis = RedisServer()
    first, second = (Node(application=BOARD, REDIS_URL=redis.url) for _ in range(2))
    with stopping(redis, first, second):
        yield first.wait_ready(), second.wait_ready()


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Iterator[Node]:
    """The first node; after the test, no more of clients is left on either than before it."""
    before = [leftovers(one) for one in nodes]
    yield nodes[0]
    # A client that was refused and died between two polls is noticed after SOCKET_CONNECT_TIMEOUT.
    deadline = time.monotonic() + 12
    while (after := [leftovers(one) for one in nodes]) != before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert after == before


def leftovers(node: Node) -> dict[str, int]:
    return requests.get(node.url + "/_counts", timeout=5).json()["leftovers"]


def post(node: Node, path: str, body: Any = None, **params: str) -> Any:
    answer = requests.post(node.url + path, json=body or {}, params=params, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


POLLING = "/socket.io/?EIO=4&transport=polling"


def raw_connect(
    get: Callable[[str], str], post: Callable[[str, str], Any], namespace: str, auth: Any, polls: int = 1
) -> list[str]:
    """CONNECT over polling by hand; return the packets that came in so many polls, in order."""
    path = f"{POLLING}&sid={json.loads(get(POLLING)[1:])['sid']}"
    post(path, f"40{namespace},{json.dumps(auth)}")
    packets = [packet for _ in range(polls) for packet in get(path).split("\x1e")]
    post(path, "1")
    return packets


def of_node(node: Node) -> tuple[Callable[[str], str], Callable[[str, str], Any]]:
    return (
        lambda path: requests.get(node.url + path, timeout=5).text,
        lambda path, body: requests.post(node.url + path, data=body, timeout=5),
    )


def of_stock(namespace: socketio.Namespace) -> tuple[socketio.Server, Callable[[str], str], Callable[[str, str], Any]]:
    server = socketio.Server(async_mode="threading")
    server.register_namespace(namespace)
    client = WsgiClient(socketio.WSGIApp(server))
    return server, lambda path: client.get(path).text, lambda path, body: client.post(path, data=body)


# The Flask app


def test_the_app_keeps_its_routes_and_its_error_pages(node: Node) -> None:
    def get(path: str) -> tuple[int, str]:
        answer = requests.get(node.url + path, timeout=5)
        return answer.status_code, answer.text

    assert get("/") == (200, "the app's own page")
    assert get("/nowhere") == (404, "the app's own 404")
    assert get("/api/v1/nowhere") == (404, "the app's own 404")
    assert get("/divide") == (500, "the app's own error page")
    assert get("/healthz")[0] == 200
    assert requests.post(node.url + "/api/v1/logs", json={}, timeout=5).json()["error"]["code"] == (
        "authentication_required"
    )


def test_a_view_publishes_in_one_line_to_the_tenants_clients_or_those_in_a_room(nodes: Any, node: Node) -> None:
    watchers = [
        Watcher(nodes[0].url, "/board", auth={"token": token("ann")}),
        Watcher(nodes[1].url, "/board", auth={"token": token("bob")}),
        Watcher(nodes[0].url, "/board", auth={"token": token("eve", ["other"])}),
    ]
    ann, bob, eve = watchers
    with stopping(*watchers):
        bob.call("/board", "open_card", "c1")
        eve.call("/board", "open_card", "c1")
        first = post(node, "/cards", {"id": 1})["offset"]
        second = post(nodes[1], "/cards", {"id": 2}, room="c1")["offset"]
        third = post(node, "/cards", {"id": 3})["offset"]
        assert bob.wait("card_added", 3) == [{"id": 1}, {"id": 2}, {"id": 3}]
        assert ann.wait("card_added", 2) == [{"id": 1}, {"id": 3}]
        numbers = [int(offset.rpartition("-")[2]) for offset in (first, second, third)]
        assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
        bob.call("/board", "close_card", "c1")
        post(node, "/cards", {"id": 4}, room="c1")
        post(node, "/cards", {"id": 5})
        assert bob.wait("card_added", 4)[3:] == [{"id": 5}]
        assert eve.heard("card_added") == []


def test_a_view_issues_a_ticket_that_a_browser_connects_with(node: Node) -> None:
    seen = json.loads(run_js("tickets.mjs", node.url, seconds=30))
    assert sorted(seen["connects"][:2]) == sorted(seen["connects"][2:]) == ["/board", "/flows"]
    assert seen["errors"] == []
    assert seen["who"] == [{"user": "cookie-user", "tenant": "acme", "anonymous": False}] * 2
    assert seen["reused"] == "authentication_failed"


def test_after_the_first_request_a_namespace_is_too_late(node: Node) -> None:
    assert "before the first request" in post(node, "/late")["raised"]


# Stock namespaces


def test_stock_acks_are_raw(node: Node) -> None:
    watcher = Watcher(node.url, "/board", auth={"token": token()})
    with stopping(watcher):
        assert watcher.call("/board", "several", (1, {"a": "b"})) == (1, {"a": "b"}, "and", {"more": [1, 2]})
        assert watcher.call("/board", "nothing") is None
        assert watcher.call("/board", "one_list") == [1, 2, 3]
        assert watcher.call("/board", "binary", b"\x00\x01\xff") == b"\xff\x01\x00"
        assert watcher.call("/board", "session", "first") is None
        assert watcher.call("/board", "session", "second") == "first"
        assert watcher.call("/board", "who") == {"user": "ann", "tenant": "acme", "anonymous": False}


def test_a_stock_handler_calls_its_client_and_waits_for_the_answer(node: Node) -> None:
    watcher = Watcher(node.url, "/board", auth={"token": token()})
    watcher.client.on("question", lambda text: (text, "because"), namespace="/board")
    with stopping(watcher):
        assert watcher.call("/board", "ask_me") == ("why?", "because")


def test_a_slow_stock_handler_does_not_hold_up_the_next_event(node: Node) -> None:
    watcher = Watcher(node.url, "/board", auth={"token": token()})
    answered: list[str] = []
    with stopping(watcher):
        for event in ("slow", "quick", "fail", "quick"):
            watcher.client.emit(event, namespace="/board", callback=answered.append)
        until(lambda: len(answered) == 3, 5)
        assert answered == ["quick", "quick", "slow"]


def test_handlers_by_decorator_work_in_a_namespace_of_their_own_and_are_authenticated(node: Node) -> None:
    watcher = Watcher(node.url, "/plain", auth={"token": token()})
    with stopping(watcher):
        assert watcher.call("/plain", "ping_me", (1, 2)) == ("pong", 1, 2)
    with pytest.raises(socketio.exceptions.ConnectionError):
        Watcher(node.url, "/plain", auth={"token": "wrong"})


def test_handlers_by_decorator_work_in_the_default_namespace(node: Node) -> None:
    watcher = Watcher(node.url, "/", auth={"token": token()})
    with stopping(watcher):
        assert watcher.call("/", "ping_root") == "pong from /"
        assert watcher.call("/", "ping_nobody")["error"]["code"] == "unknown_event"


def test_authenticated_first_unless_the_namespace_says_otherwise(node: Node) -> None:
    for auth in ({"token": "wrong"}, {"token": token(exp=int(time.time()) - 100)}):
        refused = raw_connect(*of_node(node), "/board", auth)
        assert len(refused) == 1 and refused[0].startswith("44/board,") and '"code"' in refused[0]
        assert raw_connect(*of_node(node), "/open", auth)[0].startswith("40/open,")
    watcher = Watcher(node.url, "/open")
    with stopping(watcher):
        assert watcher.wait("welcome") == ["stranger"]
        assert watcher.call("/open", "hello", "you") == ["hello", "you"]


@pytest.mark.parametrize("name", ["connect", "disconnect"])
@pytest.mark.parametrize("namespace", ["/board", "/open", "/plain", "/typed"])
def test_events_named_like_the_library_s_own_are_refused(node: Node, name: str, namespace: str) -> None:
    """Stock runs the connect and disconnect handlers with the client's arguments."""
    user = f"mallory-{name}"
    watcher = Watcher(node.url, namespace, auth={"token": token(user)})
    with stopping(watcher):
        assert watcher.call(namespace, name, "x")["error"]["code"] == "unknown_event"
        watcher.send(namespace, name, "x")
        assert watcher.wait("error")[0]["code"] == "unknown_event"
        if namespace == "/board":
            assert user not in watcher.call("/board", "gone")


def test_a_disconnect_handler_still_knows_who_left(node: Node) -> None:
    for number, end in enumerate((lambda w: w.close(), lambda w: w.cut())):
        leaver = Watcher(node.url, "/board", auth={"token": token(f"leaver-{number}")})
        end(leaver)
        witness = Watcher(node.url, "/board", auth={"token": token()})
        with stopping(leaver, witness):
            until(lambda: f"leaver-{number}" in witness.call("/board", "gone"), 5)  # noqa: B023


# Connecting


class Greeter(socketio.Namespace):  # type: ignore[misc]
    """What `/picky` is, on the stock server."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.enter_room(sid, "early")
        if auth == {"mode": "raise"}:
            raise RuntimeError("a connect handler's own failure")
        self.emit("early", 0, to=sid)


def test_what_a_connect_handler_emits_comes_after_connect(node: Node) -> None:
    packets = raw_connect(*of_node(node), "/picky", {"mode": "many"}, polls=2)  # of 16 packets each
    assert packets[0].startswith('40/picky,{"sid"')
    assert packets[1:] == [f'42/picky,["early",{number}]' for number in range(20)]
    _, get, post = of_stock(Greeter("/picky"))
    assert [packet[:2] for packet in raw_connect(get, post, "/picky", {})] == ["42", "40"]


def test_what_a_connect_handler_emits_to_a_room_reaches_the_client_that_it_just_let_in(node: Node) -> None:
    """`enter_room(sid, r)` and `emit(…, room=r)` in one connect handler: stock sends it to the newcomer too."""
    watcher = Watcher(node.url, "/picky", auth={"mode": "room", "token": token()})
    with stopping(watcher):
        assert watcher.wait("early", seconds=2) == ["to a room"]


@pytest.mark.parametrize(
    ("mode", "answer"),
    [
        ("false", {"message": "Connection rejected by server"}),
        ("args", {"message": "not you", "data": [{"code": "picky", "tries": 3}, "third"]}),
        ("bare", {"message": "Connection rejected by server"}),
        ("raise", {"message": "Internal error", "data": {"code": "internal"}}),
    ],
)
def test_a_connect_handler_refuses_and_nothing_is_left(node: Node, mode: str, answer: Any) -> None:
    get, send = of_node(node)
    path = f"{POLLING}&sid={json.loads(get(POLLING)[1:])['sid']}"
    send(path, f"40/picky,{json.dumps({'mode': mode})}")
    assert get(path) == f"44/picky,{json.dumps(answer, separators=(',', ':'))}"
    left = leftovers(node)
    assert {name: count for name, count in left.items() if count} == {"sessions": 1, "environ": 1}
    send(path, "40/picky,")
    assert get(path).startswith("40/picky,")
    send(path, "1")


def test_the_stock_server_keeps_a_socket_whose_connect_handler_failed() -> None:
    server, get, post = of_stock(Greeter("/picky"))
    sid = json.loads(get(POLLING)[1:])["sid"]
    with pytest.raises(RuntimeError):
        server._handle_connect(sid, "/picky", {"mode": "raise"})
    assert server.manager.rooms["/picky"]["early"]


def test_what_may_pass_is_never_a_refusal_also_from_a_connect_handler(node: Node) -> None:
    """A stock client takes a refusal as final, so a handler that meets a silent Redis must not become one."""
    get, send = of_node(node)
    path = f"{POLLING}&sid={json.loads(get(POLLING)[1:])['sid']}"
    send(path, '40/picky,{"mode":"unavailable"}')
    answer = get(path)
    send(path, "1")
    assert "44/picky" not in answer


def test_a_typed_namespace_of_one_s_own(node: Node) -> None:
    watcher = Watcher(node.url, "/typed", auth={"token": token()})
    with stopping(watcher):
        assert watcher.call("/typed", "shout", {"text": "hi"}) == {"ok": True, "data": {"text": "HI", "user": "ann"}}
        refused = watcher.call("/typed", "shout", {"text": 1})
        assert refused["ok"] is False and refused["error"]["path"] == "$.text"
        watcher.send("/typed", "shout", {"text": "ho"})
        assert watcher.wait("shout") == [{"text": "HO", "user": "ann"}]


def test_a_typed_namespace_whose_joined_fails_leaves_nothing_behind(node: Node) -> None:
    get, send = of_node(node)
    path = f"{POLLING}&sid={json.loads(get(POLLING)[1:])['sid']}"
    send(path, "40/join-fails,")
    answer = get(path)
    left = leftovers(node)
    send(path, "1")
    # Either a refusal, or the connection closed: not a client that was told both yes and no.
    assert not ("40/join-fails" in answer and "44/join-fails" in answer), answer
    assert left["rooms_of"] == left["clients"] == left["held_channels"] == 0, left


def test_the_later_of_one_name_replaces_the_earlier_also_the_root() -> None:
    redis = RedisServer()
    node = Node(application="tests.integration.apps.root:application", REDIS_URL=redis.url)
    with stopping(redis, node):
        watcher = Watcher(node.wait_ready().url, "/", auth={"token": token("ann")})
        with stopping(watcher):
            assert watcher.call("/", "hello", "you") == ("hello you", "ann")
        with pytest.raises(socketio.exceptions.ConnectionError):
            Watcher(node.url, "/", auth={"token": "wrong"})


def test_the_later_stock_namespace_of_one_name_replaces_the_earlier(node: Node) -> None:
    watcher = Watcher(node.url, "/replaced", auth={"token": token()})
    with stopping(watcher):
        assert watcher.call("/replaced", "which") == "later"


# Server.emit, and a stock manager in another process


def test_server_emit_reaches_a_room_and_a_sid_of_another_node_and_returns_its_ack(nodes: Any, node: Node) -> None:
    here, there = (Watcher(one.url, "/board", auth={"token": token()}) for one in nodes)
    asked: list[Any] = []
    there.client.on("question", lambda text: asked.append(text) or ("because", {"n": 1}), namespace="/board")
    with stopping(here, there):
        for watcher in (here, there):
            watcher.call("/board", "join_stock", "r")
        post(node, "/emit", {"event": "to_room", "data": {"n": 1}, "room": "r", "namespace": "/board"})
        assert here.wait("to_room") == there.wait("to_room") == [{"n": 1}]
        sid = there.client.get_sid("/board")
        post(node, "/emit", {"event": "to_sid", "data": [1, 2], "to": sid, "namespace": "/board"})
        assert there.wait("to_sid") == [[1, 2]]
        assert here.heard("to_sid") == []
        assert post(node, "/ask", {"text": "why?", "sid": sid, "namespace": "/board"})["answers"] == [
            ["because", {"n": 1}]
        ]
        here.call("/board", "echo_all", "all")
        assert here.wait("echoed") == there.wait("echoed") == ["all"]
        # The library tells another node's client to go by the same channel.
        here.call("/board", "kick", sid)
        assert there.disconnected.wait(5)


def test_server_emit_on_ours_needs_a_tenants_room(nodes: Any, node: Node) -> None:
    ann = Watcher(nodes[1].url, "/logs", "/flows", auth={"token": token()})
    eve = Watcher(nodes[1].url, "/logs", "/flows", auth={"token": token("eve", ["other"])})
    with stopping(ann, eve):
        for namespace in ("/logs", "/flows", "/workspaces", "/ai"):
            for room in ({}, {"room": "acme"}, {"room": ["acme:", "x"]}, {"room": []}):
                raised = post(node, "/emit", {"event": "e", "data": 1, "namespace": namespace, **room})["raised"]
                assert raised == "ValueError", (namespace, room)
        assert post(node, "/emit", {"event": "e", "data": 2, "namespace": "/flows", "room": "acme:"})["raised"] is None
        assert ann.wait("e") == [2]
        time.sleep(SETTLED)
        assert eve.heard("e") == []


def test_a_stock_manager_in_another_process(nodes: Any, node: Node) -> None:
    dropped = requests.get(node.url + "/_counts", timeout=5).json()["dropped"].get("unaddressed", 0)
    url = next(value for name, value in node.env.items() if name == "REDIS_URL")
    manager = socketio.RedisManager(url, write_only=True)
    ann = Watcher(node.url, "/board", "/flows", auth={"token": token()})
    eve = Watcher(nodes[1].url, "/board", "/flows", auth={"token": token("eve", ["other"])})
    with stopping(ann, eve):
        manager.emit("outside", {"n": 1}, namespace="/board")
        assert ann.wait("outside") == eve.wait("outside") == [{"n": 1}]
        manager.emit("bytes", b"\x00\xff", namespace="/board")
        assert ann.wait("bytes") == [b"\x00\xff"]
        manager.emit("leak", {"n": 2}, namespace="/flows")
        manager.emit("leak", {"n": 3}, namespace="/flows", room="acme")
        manager.emit("flow_note", {"n": 4}, namespace="/flows", room="acme:")
        assert ann.wait("flow_note") == [{"n": 4}]
        assert ann.heard("leak") == eve.heard("leak") == eve.heard("flow_note") == []
        counted = requests.get(node.url + "/_counts", timeout=5).json()["dropped"]
        assert counted.get("unaddressed", 0) - dropped == 2
    manager.redis.close()


def test_garbage_on_the_library_s_channel_is_counted_and_costs_nobody_anything(nodes: Any, node: Node) -> None:
    before = requests.get(node.url + "/_counts", timeout=5).json()["dropped"].get("malformed", 0)
    watcher = Watcher(node.url, "/board", "/flows", auth={"token": token()})
    garbage = [
        b"\x80\x04garbage",
        b"null",
        b"[]",
        b"{}",
        b'{"method":"emit"}',
        b'{"method":"emit","event":1,"namespace":"/board","room":null,"data":[]}',
        b'{"method":"emit","event":"x","namespace":"/board","room":{"a":1},"data":[],"skip_sid":null}',
        b'{"method":"emit","event":"x","namespace":["/flows"],"room":null,"data":[],"skip_sid":null}',
        b'{"method":"emit","event":"x","namespace":"/board","room":null,"binary":true,"data":["no"],"callback":7}',
        b'{"method":"callback","host_id":"x"}',
        b'{"method":"disconnect","sid":null,"namespace":null}',
        b'{"method":"enter_room","sid":["x"],"namespace":"/board","room":"r"}',
        b'{"method":"close_room","room":null,"namespace":"/board"}',
    ]
    import redis as redis_client

    with stopping(watcher), redis_client.Redis.from_url(node.env["REDIS_URL"]) as client:
        for message in garbage:
            client.publish("socketio", message)
        client.publish("socketio", b"x" * 3_000_000)
        post(node, "/emit", {"event": "after", "data": 1, "namespace": "/board"})
        assert watcher.wait("after") == [1]
        assert watcher.call("/board", "who")["user"] == "ann"
        dropped = requests.get(node.url + "/_counts", timeout=5).json()["dropped"]
        assert dropped.get("malformed", 0) - before >= 6
        assert dropped["oversized"] >= 1


def test_an_event_emitted_by_many_views_at_once_reaches_everyone_once(nodes: Any, node: Node) -> None:
    watchers = [Watcher(one.url, "/board", auth={"token": token()}) for one in (*nodes, nodes[0])]
    with stopping(*watchers):
        threads = [threading.Thread(target=post, args=(nodes[n % 2], "/cards", {"n": n})) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        orders = [[card["n"] for card in watcher.wait("card_added", 40)] for watcher in watchers]
        assert sorted(orders[0]) == list(range(40))
        assert orders[0] == orders[1] == orders[2]


def test_a_connect_handler_of_two_arguments_works_for_clients_without_a_payload(node: Node) -> None:
    watcher = Watcher(node.url, "/legacy")
    with stopping(watcher):
        assert watcher.wait("welcome") == ["legacy"]


def test_a_view_that_asks_another_service_by_https_waits_alone(node: Node) -> None:
    """Had ssl's classes been imported before gevent replaced them, this would end in a RecursionError."""
    server = TlsServer()
    with stopping(server):
        answers: list[str] = []
        params = {"url": server.url, "ca": str(server.ca)}
        asking = threading.Thread(
            target=lambda: answers.append(requests.get(node.url + "/fetch", params=params, timeout=20).text)
        )
        asking.start()
        assert server.asked.wait(10)
        assert requests.get(node.url + "/healthz", timeout=5).status_code == 200, "the loop is free meanwhile"
        assert answers == []
        server.go.set()
        asking.join(10)
        assert answers == ["said in private"]
    assert "MonkeyPatchWarning" not in node.text()
