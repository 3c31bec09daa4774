"""Connection state recovery with the unmodified JavaScript client: nothing missed, nothing twice, or a word of it."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.comeback import Comeback, Network
from tests.plain_client import Plain
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, ROOT, Node, stopping, token, until
from tests.watcher import Watcher

OFFSET = re.compile(r"\A[0-9a-z]+-[0-9]+\Z")
BOARD = "tests.integration.apps.board:application"
ALL = ("/", "/logs", "/flows", "/workspaces", "/ai", "/typed", "/board")


@pytest.fixture(scope="module")
def redis_here() -> Iterator[PrivateRedis]:
    server = PrivateRedis()
    yield server
    server.stop()


def start(redis: PrivateRedis, **env: str) -> Node:
    settings = {
        "REDIS_URL": redis.url,
        "SOCKET_RATE_LIMIT": "0",
        "SOCKET_ANONYMOUS_TENANTS": "acme",
        "AI_BACKEND": "echo",
        "JWT_MAX_LIFETIME": "86400",
    }
    return Node(application=BOARD, **settings, **env)


def faults(*nodes: Node) -> list[str]:
    lines = [line for node in nodes for line in node.text().splitlines()]
    return [line[:3000] for line in lines if "Traceback" in line or '"level": "error"' in line]


@pytest.fixture(scope="module")
def nodes(redis_here: PrivateRedis) -> Iterator[tuple[Node, Node]]:
    first, second = start(redis_here), start(redis_here)
    with stopping(first, second):
        yield first.wait_ready(), second.wait_ready()
        assert not faults(first, second)


@pytest.fixture(scope="module")
def hasty(redis_here: PrivateRedis) -> Iterator[Node]:
    """A node whose window is two seconds."""
    node = start(redis_here, RECOVERY_WINDOW="2", REDIS_PREFIX="hasty")
    with stopping(node):
        yield node.wait_ready()
        assert not faults(node)


@pytest.fixture(scope="module")
def emit(redis_here: PrivateRedis) -> Iterator[Emitter]:
    with Emitter(settings=Settings.from_env({"REDIS_URL": redis_here.url})) as emitter:
        yield emitter


@pytest.fixture
def network(nodes: tuple[Node, Node]) -> Iterator[Network]:
    network = Network(nodes[0].port)
    with stopping(network):
        yield network


@pytest.fixture
def connect(network: Network) -> Iterator[Callable[..., Comeback]]:
    made: list[Comeback] = []

    def connect(*namespaces: str, **options: Any) -> Comeback:
        made.append(Comeback(network.url, *namespaces, **options))
        for namespace in namespaces:
            if made[-1].wait(namespace).get("pid"):
                until(lambda namespace=namespace: made[-1].events(namespace))  # type: ignore[misc]
        return made[-1]

    yield connect
    for client in made:
        client.stop()


def numbers(client: Comeback) -> list[int]:
    return [payload["n"] for payload in client.heard("/flows", "flow_progress")]


def progress(emit: Emitter, run: str, *found: int, tenant: str = "acme") -> None:
    for n in found:
        emit.flows.progress(tenant, "flow", run, n % 100, data={"n": n})


def came_back(client: Comeback, namespace: str = "/flows", connects: int = 2, *, to: dict[str, Any]) -> None:
    """Wait for a connect, and see that it went on with what the first one began."""
    assert client.wait(namespace, connects) == {"sid": to["sid"], "recovered": True, "pid": to["pid"]}
    assert client.heard(namespace, "resync") == []


def began_anew(client: Comeback, reason: str, namespace: str = "/flows", connects: int = 2) -> None:
    """Wait for a connect, and see that it did not go on, and says why."""
    first, second = client.connects(namespace)[0], client.wait(namespace, connects)
    assert not second["recovered"] and second["sid"] != first["sid"] and second["pid"] != first["pid"]
    assert client.wait_heard(namespace, "resync")[-1] == {"reason": reason}


def test_what_was_missed_comes_before_connect_in_order_and_once(
    connect: Callable[..., Comeback], network: Network, emit: Emitter
) -> None:
    client = connect("/flows")
    (first,) = client.connects("/flows")
    assert not first["recovered"] and re.fullmatch(r"[\w-]{22}\.[0-9a-f]{8}", first["pid"])
    assert client.call("/flows", "subscribe_flow", {"runId": "r1"})["ok"]
    progress(emit, "r1", 1, 2, 3)
    client.wait_heard("/flows", "flow_progress", 3)
    network.down()
    progress(emit, "r1", *range(4, 40))
    progress(emit, "another", 1000, 1001)
    network.back()
    came_back(client, to=first)
    progress(emit, "r1", 40)
    client.wait_heard("/flows", "flow_progress", 40)
    assert numbers(client) == list(range(1, 41))
    for _, *args in client.events("/flows"):
        assert OFFSET.match(args[-1]), args
    # The stock client hands on what came before CONNECT when that has come, and before its own `connect`.
    at = [place for place, line in enumerate(client.lines) if line[1] == "connect"][1]
    assert sum(line[1:3] == ["event", "flow_progress"] for line in client.lines[:at]) == 39


def test_who_does_not_ask_gets_nothing_of_it(connect: Callable[..., Comeback], network: Network, emit: Emitter) -> None:
    client = connect("/flows", auth={"token": token("ann")})
    assert "pid" not in client.connects("/flows")[0]
    client.call("/flows", "subscribe_flow", {"runId": "plain"})
    progress(emit, "plain", 1)
    client.wait_heard("/flows", "flow_progress")
    assert [len(line) for line in client.events("/flows")] == [2]
    network.down()
    progress(emit, "plain", 2)
    network.back()
    assert client.wait("/flows", 2)["recovered"] is False
    assert client.call("/flows", "subscribe_flow", {"runId": "plain"})["ok"]
    progress(emit, "plain", 3)
    until(lambda: len(numbers(client)) == 2)
    assert numbers(client) == [1, 3] and client.heard("/flows", "resync") == []


def test_the_other_node_goes_on_where_the_first_one_stopped(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node], emit: Emitter
) -> None:
    client = connect("/flows")
    (first,) = client.connects("/flows")
    client.call("/flows", "subscribe_flow", {"runId": "two"})
    for turn in range(1, 5):
        progress(emit, "two", 10 * turn)
        client.wait_heard("/flows", "flow_progress", 2 * turn - 1)
        network.down()
        progress(emit, "two", 10 * turn + 1)
        network.back(nodes[turn % 2].port)
        came_back(client, connects=turn + 1, to=first)
    assert numbers(client) == [10, 11, 20, 21, 30, 31, 40, 41]


@pytest.mark.parametrize("where", [0, 1])
def test_an_old_connection_that_looks_open_is_closed(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node], emit: Emitter, where: int
) -> None:
    """A cut that the server isn't told of: it would notice after ping interval and timeout, 45 s."""
    client = connect("/flows", "/board")
    (first,) = client.connects("/flows")
    client.call("/flows", "subscribe_flow", {"runId": f"half-{where}"})
    client.call("/board", "who")
    network.down(half=True)
    progress(emit, f"half-{where}", 1)
    began = time.monotonic()
    network.back(nodes[where].port)
    came_back(client, to=first)
    came_back(client, "/board", to=client.connects("/board")[0])
    assert time.monotonic() - began < 3
    # The old node has closed the whole transport.
    until(lambda: all(_closed(server) for server in network.left_open), 5)
    progress(emit, f"half-{where}", 2)
    until(lambda: numbers(client) == [1, 2])
    time.sleep(0.3)
    assert len(client.connects("/flows")) == 2 and numbers(client) == [1, 2]
    # What the old node does late touches nothing of the new connection.
    network.down()
    progress(emit, f"half-{where}", 3)
    network.back(nodes[0].port)
    came_back(client, connects=3, to=first)
    until(lambda: numbers(client) == [1, 2, 3])


def _closed(server: Any) -> bool:
    server.settimeout(0.05)
    try:
        while data := server.recv(65536):
            assert data
        return True
    except TimeoutError:
        return False
    except OSError:
        return True


def test_an_idle_client_and_one_that_never_got_an_event(
    connect: Callable[..., Comeback], network: Network, emit: Emitter
) -> None:
    """`position` gives the first offset; and where even that didn't arrive, the session's start counts."""
    idle, silent = connect("/flows"), connect("/flows")
    for client in (idle, silent):
        client.call("/flows", "subscribe_flow", {"runId": "idle"})
        (position,) = client.events("/flows")
        assert position[0] == "position" and len(position) == 2 and OFFSET.match(position[1])
    silent.do("/flows", "offset", None)
    network.down()
    progress(emit, "idle", 1, 2)
    network.back()
    for client in (idle, silent):
        came_back(client, to=client.connects("/flows")[0])
        assert numbers(client) == [1, 2]
    silent.do("/flows", "offset", "0-0")
    network.cut()
    came_back(silent, connects=3, to=silent.connects("/flows")[0])


@pytest.mark.parametrize("shown", ["what", "", "a-b", "-", "x" * 100, 7, ["a-1"], {"a": 1}])
def test_an_offset_that_nobody_can_read(connect: Callable[..., Comeback], network: Network, shown: Any) -> None:
    client = connect("/flows")
    client.do("/flows", "offset", shown)
    network.cut()
    began_anew(client, "offset")


@pytest.mark.parametrize("pid", ["x", "", 7, "x" * 1000, "AAAAAAAAAAAAAAAAAAAAAA.00000000"])
def test_a_pid_that_nobody_knows(connect: Callable[..., Comeback], network: Network, pid: Any) -> None:
    client = connect("/flows")
    known = client.connects("/flows")[0]["pid"]
    client.do("/flows", "pid", known[:22].swapcase() + known[22:] if pid == "" else pid)
    network.cut()
    began_anew(client, "tenant" if "." in str(pid) else "expired")


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        ({"token": token("bob", ["acme"])}, "user"),
        ({"token": None}, "user"),
        ({"token": token("ann", ["acme", "other"]), "tenantId": "other"}, "tenant"),
        ({"token": token("ann", scope="flows:read")}, "scope"),
    ],
)
def test_another_user_tenant_or_scope_is_not_recovered(
    connect: Callable[..., Comeback], network: Network, emit: Emitter, auth: dict[str, Any], reason: str
) -> None:
    client = connect("/flows")
    client.call("/flows", "subscribe_flow", {"runId": "secret"})
    network.down()
    progress(emit, "secret", 1)
    client.do("/flows", "auth", auth)
    network.back()
    began_anew(client, reason)
    assert numbers(client) == []


def test_a_token_that_is_refused_is_refused_again(connect: Callable[..., Comeback], network: Network) -> None:
    client = connect("/flows")
    client.do("/flows", "auth", {"token": "garbage"})
    network.cut()
    until(lambda: client.said("/flows", "connect_error"))
    assert client.said("/flows", "connect_error")[-1][1]["code"] == "authentication_failed"


def test_a_replay_that_was_cut_is_told_once(nodes: tuple[Node, Node], emit: Emitter) -> None:
    """The stock client keeps what came before CONNECT over a lost connection, and would have it twice."""
    run, auth = f"cut-{time.time_ns()}", {"token": token("cut"), "recover": True}
    first = Plain(nodes[0].url)
    with stopping(first):
        pid = first.join("/flows", auth).content["pid"]
        assert first.call("/flows", "subscribe_flow", {"runId": run})["ok"]
        progress(emit, run, 0)
        shown = first.told_with_offset("/flows", "flow_progress")
    progress(emit, run, 1, 2, 3)
    again = {**auth, "pid": pid, "offset": shown}
    cut = Plain(nodes[0].url)
    with stopping(cut):
        cut.send("40/flows," + json.dumps(again))
        kept = cut.told_with_offset("/flows", "flow_progress")
    for node in nodes:
        # What it holds of the cut replay may be anything: it is told that it is connected, and nothing else, until it
        # has heard that.
        for hears in (False, False, True):
            flushed = Plain(node.url)
            with stopping(flushed):
                answer = flushed.join("/flows", again)
                assert answer.content["pid"] == pid and flushed.waiting == []
                if hears:
                    assert flushed.wait_closed() == []
        # Who held nothing comes with the same offset and gets all of it; who held some, with a later one, the rest.
        for offset, missed in ((shown, [1, 2, 3]), (kept, [2, 3])):
            back = Plain(node.url)
            with stopping(back):
                assert back.join("/flows", {**again, "offset": offset}).content["pid"] == pid
                came = [m.content[1]["progress"] for m in back.waiting if m.content[0] == "flow_progress"]
                assert came == missed
        again["offset"] = shown
        cut = Plain(node.url)
        with stopping(cut):
            cut.send("40/flows," + json.dumps(again))
            cut.told_with_offset("/flows", "flow_progress")


def test_two_tabs_have_each_their_own(connect: Callable[..., Comeback], network: Network, emit: Emitter) -> None:
    tabs = [connect("/flows") for _ in range(2)]
    for number, tab in enumerate(tabs):
        tab.call("/flows", "subscribe_flow", {"runId": f"tab-{number}"})
    network.down()
    progress(emit, "tab-0", 1)
    progress(emit, "tab-1", 2)
    network.back()
    for number, tab in enumerate(tabs):
        came_back(tab, to=tab.connects("/flows")[0])
        assert numbers(tab) == [number + 1]
    assert tabs[0].connects("/flows")[0]["pid"] != tabs[1].connects("/flows")[0]["pid"]


@pytest.mark.parametrize("transports", [["polling"], ["polling", "websocket"]])
def test_by_polling(connect: Callable[..., Comeback], network: Network, emit: Emitter, transports: list[str]) -> None:
    run = "-".join(transports)
    client = connect("/flows", transports=transports)
    client.call("/flows", "subscribe_flow", {"runId": run})
    network.down(half=True)
    progress(emit, run, *range(1, 30))
    network.back()
    came_back(client, to=client.connects("/flows")[0])
    progress(emit, run, 30)
    client.wait_heard("/flows", "flow_progress", 30)
    assert numbers(client) == list(range(1, 31))


def test_a_client_that_says_goodbye_is_forgotten(connect: Callable[..., Comeback]) -> None:
    client = connect("/flows")
    client.do("/flows", "disconnect")
    until(lambda: client.said("/flows", "disconnect"))
    client.do("/flows", "connect")
    began_anew(client, "expired")


def test_each_namespace(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node], emit: Emitter
) -> None:
    client = connect(*ALL)
    first = {namespace: client.connects(namespace)[0] for namespace in ALL}
    assert len({one["pid"] for one in first.values()}) == len(ALL)
    assert client.call("/logs", "subscribe_logs", {"flowId": "each", "minLevel": "warn"})["ok"]
    assert client.call("/workspaces", "join_workspace", {"workspaceId": "each", "deltas": True})["ok"]
    client.do("/board", "send", "open_card", "c1")
    client.do("/board", "send", "open_card", "c2")
    client.do("/board", "send", "close_card", "c2")
    client.call("/board", "who")
    emit.publish("acme", "/board", "card", {"n": 0}, room="c1")
    client.wait_heard("/board", "card")
    network.down()
    for level in ("warn", "debug"):
        emit.logs.append("acme", flow_id="each", level=level, message=level)
    emit.workspaces.update("acme", "each", {"a": 1})
    emit.workspaces.update("acme", "each", {"a": 2})
    for n, room in enumerate(("c1", "c2", None), 1):
        emit.publish("acme", "/board", "card", {"n": n}, room=room)
    emit.publish("acme", "/typed", "own", {"n": 1})
    emit.publish("acme", "/", "own", {"n": 1})
    network.back(nodes[1].port)
    for namespace in ALL:
        came_back(client, namespace, to=first[namespace])
    assert [one["log"]["message"] for one in client.heard("/logs", "new_log")] == ["warn"]
    assert [one["version"] for one in client.heard("/workspaces", "workspace_updated")] == [1, 2]
    assert [one["n"] for one in client.heard("/board", "card")] == [0, 1, 3]
    assert [one["n"] for one in client.heard("/typed", "own")] == [1]
    assert [one["n"] for one in client.heard("/", "own")] == [1]
    # Commands work on, and so do the rooms.
    emit.publish("acme", "/board", "card", {"n": 4}, room="c1")
    assert client.wait_heard("/board", "card", 4)[-1] == {"n": 4}
    assert client.call("/typed", "shout", {"text": "x"})["data"]["text"] == "X"
    assert client.call("/workspaces", "update_workspace", {"workspaceId": "each", "state": {"b": 1}})["ok"]
    for namespace in ALL:
        for event, *args in client.events(namespace):
            assert OFFSET.match(args[-1]), (namespace, event, args)


def test_a_full_state_comes_once_in_place_of_all_that_were_missed(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node], emit: Emitter
) -> None:
    client = connect("/workspaces")
    for name in ("w1", "w2", "w3"):
        assert client.call("/workspaces", "join_workspace", {"workspaceId": name})["ok"]
    emit.workspaces.update("acme", "w3", {"seen": True})
    client.wait_heard("/workspaces", "workspace_updated")
    network.down()
    for n in range(5):
        emit.workspaces.update("acme", "w1", {f"k{n}": n})
    emit.workspaces.update("acme", "w2", {"x": [1]})
    network.back(nodes[1].port)
    came_back(client, "/workspaces", to=client.connects("/workspaces")[0])
    emit.workspaces.update("acme", "w1", {"k0": 9})
    until(lambda: len(client.heard("/workspaces", "workspace_updated")) == 4)
    told = [(one["workspace"], one["version"]) for one in client.heard("/workspaces", "workspace_updated")]
    assert told == [("w3", 1), ("w1", 5), ("w2", 1), ("w1", 6)]
    by_version = {(one["workspace"], one["version"]): one for one in client.heard("/workspaces", "workspace_updated")}
    assert by_version["w1", 5]["state"] == {f"k{n}": n for n in range(5)}
    assert by_version["w1", 5]["updatedBy"] == "system" and by_version["w1", 5]["updatedAt"].endswith("Z")


def test_the_others_are_told_that_a_client_left_when_it_stays_away_for_ten_seconds(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node]
) -> None:
    other = Watcher(nodes[1].url, "/workspaces", auth={"token": token("bob")})
    with stopping(other):
        other.call("/workspaces", "join_workspace", {"workspaceId": "here"})
        quick = connect("/workspaces")
        slow = Comeback(
            f"http://127.0.0.1:{nodes[0].port}", "/workspaces", auth={"token": token("cy"), "recover": True}
        )
        for client in (quick, slow):
            client.wait("/workspaces")
            assert client.call("/workspaces", "join_workspace", {"workspaceId": "here"})["ok"]
        other.wait("user_joined", 2)
        slow.stop()
        began = time.monotonic()
        for turn in range(4):
            network.down(half=turn % 2 == 0)
            time.sleep(1)
            network.back(nodes[turn % 2].port)
            came_back(quick, "/workspaces", turn + 2, to=quick.connects("/workspaces")[0])
        (left,) = other.wait("user_left", 1, 20)
        assert left["user"]["userId"] == "cy"
        assert 9 < time.monotonic() - began < 16
        # The leases of the one who came back hold beyond all that its old connections left behind.
        time.sleep(max(0.0, began + 16 - time.monotonic()))
        assert len(other.heard("user_left")) == 1 and len(other.heard("user_joined")) == 2
        users = other.call("/workspaces", "join_workspace", {"workspaceId": "here"})["data"]["workspace"]["users"]
        assert sorted(user["userId"] for user in users) == ["ann", "bob"]


def test_an_anonymous_client_keeps_its_user_id(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node]
) -> None:
    client = connect("/board", auth={"recover": True})
    before = client.call("/board", "who")
    network.cut()
    network.back(nodes[1].port)
    came_back(client, "/board", to=client.connects("/board")[0])
    assert client.call("/board", "who") == before and before["user"].startswith("anonymous-")
    client.do("/board", "auth", {"token": token("ann")})
    network.cut()
    began_anew(client, "user", "/board", 3)


def test_a_stock_emit_ends_with_an_offset_too(
    connect: Callable[..., Comeback], nodes: tuple[Node, Node], emit: Emitter
) -> None:
    client, plain = connect("/board"), connect("/board", auth={"token": token("bob")})
    for data in ("a text", {"a": 1}, None, ["x"]):
        body = {"event": "stock", "data": data, "namespace": "/board"}
        assert requests.post(f"{nodes[1].url}/emit", json=body, timeout=5).json() == {"raised": None}
    until(lambda: len([e for e in plain.events("/board") if e[0] == "stock"]) == 4)
    until(lambda: len([e for e in client.events("/board") if e[0] == "stock"]) == 4)
    assert [e[1:] for e in plain.events("/board") if e[0] == "stock"] == [["a text"], [{"a": 1}], [], [["x"]]]
    found = [e[1:] for e in client.events("/board") if e[0] == "stock"]
    assert [e[:-1] for e in found] == [["a text"], [{"a": 1}], [], [["x"]]]
    assert all(OFFSET.match(e[-1]) for e in found)


def test_a_command_without_an_ack_is_answered_with_an_offset(connect: Callable[..., Comeback]) -> None:
    client = connect("/flows")
    client.do("/flows", "send", "subscribe_flow", {"runId": "x"})
    client.do("/flows", "send", "what")
    until(lambda: len(client.events("/flows", "position")) == 2)
    assert all(len(line) == 3 and OFFSET.match(line[2]) for line in client.events("/flows", "position"))


def test_replay_under_a_load_that_does_not_stop(
    connect: Callable[..., Comeback], network: Network, nodes: tuple[Node, Node], emit: Emitter
) -> None:
    client = connect("/flows")
    client.call("/flows", "subscribe_flow", {"flowId": "flow", "runId": "load"})
    going, published = threading.Event(), 0

    def load() -> None:
        nonlocal published
        session = requests.Session()
        with session:
            while not going.is_set():
                events = [
                    {"type": "flow_progress", "progress": 1, "data": {"n": published + n, "pad": "x" * 300}}
                    for n in range(1, 21)
                ]
                answer = session.post(
                    f"{nodes[0].url}/api/v1/flows/flow/runs/load/events",
                    json=events,
                    headers={"X-API-Key": API_KEY},
                    timeout=10,
                )
                assert answer.status_code == 202
                published += 20
                time.sleep(0.01)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for turn in range(6):
            network.down(half=turn % 2 == 0)
            time.sleep(0.7)
            network.back(nodes[turn % 2].port)
            came_back(client, connects=turn + 2, to=client.connects("/flows")[0])
    finally:
        going.set()
        thread.join(15)
    until(lambda: numbers(client)[-1:] == [published], 15, f"{numbers(client)[-3:]} of {published}")
    assert published > 2000
    assert numbers(client) == list(range(1, published + 1))


# A window of two seconds


def hasty_emitter(redis: PrivateRedis) -> Emitter:
    env = {"REDIS_URL": redis.url, "REDIS_PREFIX": "hasty", "RECOVERY_WINDOW": "2"}
    return Emitter(settings=Settings.from_env(env))


def test_over_the_window_and_idle_for_longer_than_it(redis_here: PrivateRedis, hasty: Node) -> None:
    network = Network(hasty.port)
    client = Comeback(network.url, "/flows")
    with stopping(network, client), hasty_emitter(redis_here) as emit:
        client.wait("/flows")
        client.call("/flows", "subscribe_flow", {"runId": "r"})
        time.sleep(4)
        network.down()
        progress(emit, "r", 1)
        network.back()
        came_back(client, to=client.connects("/flows")[0])
        assert numbers(client) == [1]
        network.down()
        time.sleep(3)
        network.back()
        began_anew(client, "expired", connects=3)
        assert redis_here.client().keys("hasty:*session*") != []
    until(lambda: redis_here.client().keys("hasty:*session*") == [], 5)


def test_a_redis_that_forgot_everything(redis_here: PrivateRedis, hasty: Node) -> None:
    network = Network(hasty.port)
    stable = Network(hasty.port)
    away, here = Comeback(network.url, "/flows"), Comeback(stable.url, "/flows")
    with stopping(network, stable, away, here), hasty_emitter(redis_here) as emit:
        for client in (away, here):
            client.wait("/flows")
            client.call("/flows", "subscribe_flow", {"runId": "r"})
            progress(emit, "r", 1)
            client.wait_heard("/flows", "flow_progress")
        network.down()
        until(lambda: requests.get(hasty.url + "/_counts", timeout=5).json()["leftovers"]["recovering"] == 1)
        with redis_here.client() as admin:
            admin.flushall()
        progress(emit, "r", 2)
        network.back()
        began_anew(away, "expired")
        assert here.wait_heard("/flows", "resync") == [{"reason": "epoch"}]
        here.wait_heard("/flows", "flow_progress", 2)
        # The one who stayed recovers again, with what it heard of the new numbering: its session is soon there anew.
        with redis_here.client() as admin:
            until(lambda: len(admin.keys("hasty:*session*")) == 2, 5)
        stable.down()
        progress(emit, "r", 3)
        stable.back()
        first, second = here.connects("/flows")[0], here.wait("/flows", 2)
        assert second == {"sid": first["sid"], "recovered": True, "pid": first["pid"]}
        assert numbers(here) == [1, 2, 3] and len(here.heard("/flows", "resync")) == 1


@pytest.mark.parametrize("away", [0.1, 3.0])
def test_a_chat_shows_every_word_once_over_lost_connections(
    network: Network, nodes: tuple[Node, Node], away: float
) -> None:
    """Chunks are in no log: the example asks for them by itself, also where the answer ended meanwhile."""
    words = " ".join(f"word{n}" for n in range(40))
    command = ["node", str(ROOT / "examples" / "chat.mjs"), network.url]
    env = {**os.environ, "TOKEN": token("ann")}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chat:
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdin.write(words + "\nagain\n")
        chat.stdin.close()
        time.sleep(0.9)
        for place in (1, 0, 1) if away < 2 else (1,):
            network.down(half=True)
            time.sleep(away)
            network.back(nodes[place].port)
            time.sleep(0.3)
        out = chat.stdout.read()
        assert chat.wait(15) == 0
    assert f"ai>  {words}\nai>  again\n" in out.replace("you> ", ""), out


def test_a_chat_asks_again_what_never_arrived(network: Network, nodes: tuple[Node, Node]) -> None:
    command = ["node", str(ROOT / "examples" / "chat.mjs"), network.url]
    env = {**os.environ, "TOKEN": token("ann")}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as chat:
        assert chat.stdin is not None and chat.stdout is not None
        assert chat.stdout.readline().startswith("connected")
        network.down(half=True)
        chat.stdin.write("who hears this\n")
        chat.stdin.flush()
        shown = ""
        while not shown.endswith("ai>  "):
            shown += chat.stdout.read(1)
        network.back(nodes[1].port)
        shown = chat.stdout.readline()
        chat.stdin.close()
        assert chat.wait(15) == 0
    assert shown == "who hears this\n"
