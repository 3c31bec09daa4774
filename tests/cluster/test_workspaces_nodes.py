"""Workspaces on several nodes: one order and no lost update under concurrent writers, and users of dead nodes."""

import json
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonpatch import JsonPatch

from tests.plain_client import CONNECT, Plain
from tests.servers import Node, RedisServer, stopping, token, until
from tests.watcher import Watcher

WS = "/workspaces"
WRITERS, EACH = 8, 125
LEASE = 3.0

names = st.sampled_from(["a", "b", "c/d", "~", "", "é\u2028"])
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, -1, 9007199254740993, 1.0, 0.1]) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
states = st.dictionaries(names, values, max_size=4)


def pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def patches(name: str, value: Any, item: Any) -> list[list[dict[str, Any]]]:
    """Patches that apply to any state."""
    path = pointer(name)
    add = {"op": "add", "path": path, "value": value}
    return [
        [add],
        [add, {"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}],
        [{"op": "add", "path": path, "value": [item]}, {"op": "add", "path": f"{path}/-", "value": value}],
        [{"op": "add", "path": path, "value": {"x": item}}, {"op": "copy", "from": path, "path": "/copied"}],
        [add, {"op": "move", "from": path, "path": "/moved"}],
    ]


edits = (
    st.builds(lambda state: {"state": state}, states)
    | st.builds(lambda state: {"state": state, "partial": False}, states)
    | st.builds(patches, names, values, values).flatmap(st.sampled_from).map(lambda patch: {"patch": patch})
)


def exact(value: Any) -> str:
    """JSON text by which two values are equal only if they are: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[tuple[Node, Node]]:
    """Two gunicorns of one worker each on one Redis."""
    first, second = (Node(REDIS_URL=redis_server.url, SOCKET_RATE_LIMIT="0") for _ in range(2))
    with stopping(first, second):
        yield first.wait_ready(), second.wait_ready()


def plain(node: Node, tenant: str, user: str) -> Plain:
    client = Plain(node.url)
    assert client.join(WS, {"token": token(user, [tenant])}).kind == CONNECT
    return client


@settings(
    max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pool=st.lists(edits, min_size=40, max_size=80))
def test_a_thousand_concurrent_updates_are_a_thousand_versions_that_all_see(
    pair: tuple[Node, Node], pool: list[dict[str, Any]]
) -> None:
    tenant = "t" + secrets.token_hex(5)
    total = WRITERS * EACH
    # The Python client handles each message in a thread of its own, so it could not tell the order.
    readers = [plain(pair[number % 2], tenant, "eve") for number in range(4)]
    writers = [plain(pair[number % 2], tenant, f"user-{number}") for number in range(WRITERS)]
    seen: list[list[Any]] = [[] for _ in readers]
    answers: list[Any] = []

    def read(number: int, reader: Plain) -> None:
        while len(seen[number]) < total:
            seen[number].append(reader.told(WS, "workspace_updated", 30))

    def write(number: int, writer: Plain) -> None:
        writer.call(WS, "join_workspace", {"workspaceId": "w1"})
        for nth in range(EACH):
            edit = pool[(number * 17 + nth) % len(pool)]
            answers.append(writer.call(WS, "update_workspace", {"workspaceId": "w1", **edit}, seconds=30))
            writer._waiting.clear()

    with stopping(*readers, *writers):
        for number, reader in enumerate(readers):
            joined = reader.call(WS, "join_workspace", {"workspaceId": "w1", "deltas": number >= 2})
            assert joined["data"]["workspace"]["state"] == {}
        work = [(read, place) for place in enumerate(readers)] + [(write, place) for place in enumerate(writers)]
        threads = [threading.Thread(target=task, args=place) for task, place in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert [answer for answer in answers if not answer["ok"]] == []
        everything = list(range(1, total + 1))
        assert sorted(answer["data"]["version"] for answer in answers) == everything
        for events in seen:
            assert [event["version"] for event in events] == everything
        assert seen[0] == seen[1] and seen[2] == seen[3]
        state: Any = {}
        for full, delta in zip(seen[0], seen[2], strict=True):
            state = JsonPatch(delta["patch"]).apply(state)
            assert exact(state) == exact(full["state"]), delta
            assert {**delta, "patch": 0} == {**{k: v for k, v in full.items() if k != "state"}, "patch": 0}
        headers = {"Authorization": f"Bearer {token('eve', [tenant])}"}
        stored = requests.get(f"{pair[0].url}/api/v1/workspaces/w1", headers=headers, timeout=5).json()
        assert stored["version"] == total and exact(stored["state"]) == exact(state)


def test_no_increment_is_lost_whichever_way_it_is_made_safe(pair: tuple[Node, Node]) -> None:
    """A counter, by base versions and by patches with a test; who is too late reads the conflict and tries again."""
    tenant, each = "t" + secrets.token_hex(5), 20
    writers = [plain(pair[number % 2], tenant, f"user-{number}") for number in range(4)]
    failures: list[BaseException] = []

    def count(writer: Plain, patches: bool) -> None:
        try:
            shown = writer.call(WS, "join_workspace", {"workspaceId": "w1"})["data"]["workspace"]
            for _ in range(each):
                while True:
                    n = shown["state"].get("n")
                    change: dict[str, Any] = {"state": {"n": (n or 0) + 1}, "baseVersion": shown["version"]}
                    if patches and n is not None:
                        change = {"patch": [{"op": "test", "path": "/n", "value": n}]}
                        change["patch"].append({"op": "replace", "path": "/n", "value": n + 1})
                    answer = writer.call(WS, "update_workspace", {"workspaceId": "w1", **change})
                    writer._waiting.clear()
                    if answer["ok"]:
                        shown = {"state": {"n": (n or 0) + 1}, "version": answer["data"]["version"]}
                        break
                    assert answer["error"]["code"] == "conflict"
                    shown = answer["error"]
        except BaseException as error:
            failures.append(error)

    with stopping(*writers):
        threads = [threading.Thread(target=count, args=(w, n >= 2)) for n, w in enumerate(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        shown = writers[0].call(WS, "join_workspace", {"workspaceId": "w1"})["data"]["workspace"]
        assert (shown["state"], shown["version"]) == ({"n": 4 * each}, 4 * each)


@pytest.fixture
def three(redis_server: RedisServer) -> Iterator[list[Node]]:
    """Three nodes with leases of three seconds."""
    env = {"REDIS_URL": redis_server.url, "SOCKET_RATE_LIMIT": "0", "LEASE_SECONDS": str(LEASE)}
    nodes = [Node(application="tests.integration.apps.workspaces:application", **env) for _ in range(3)]
    with stopping(*nodes):
        yield [node.wait_ready() for node in nodes]


@contextmanager
def watching(nodes: list[Node], tenant: str) -> Iterator[list[Watcher]]:
    watchers = [Watcher(node.url, WS, auth={"token": token("eve", [tenant])}) for node in nodes]
    with stopping(*watchers):
        for watcher in watchers:
            assert watcher.call(WS, "join_workspace", {"workspaceId": "w1"})["ok"]
        yield watchers


def users(watcher: Watcher) -> list[str]:
    joined = watcher.call(WS, "join_workspace", {"workspaceId": "w1"})["data"]["workspace"]
    return sorted(user["userId"] for user in joined["users"])


def left(watcher: Watcher) -> Counter[str]:
    return Counter(event["user"]["userId"] for event in watcher.heard("user_left"))


def test_users_of_a_killed_node_leave_once(three: list[Node]) -> None:
    tenant = "t" + secrets.token_hex(5)
    with watching([three[0], three[0], three[1]], tenant) as watchers:
        homes = {"x": three[2], "y": three[1]}
        doomed = [plain(node, tenant, f"{name}-{n}") for name, node in homes.items() for n in range(4)]
        with stopping(*doomed):
            for client in doomed:
                assert client.call(WS, "join_workspace", {"workspaceId": "w1"})["ok"]
            assert users(watchers[0]) == ["eve"] * 3 + [f"{name}-{n}" for name in "xy" for n in range(4)]
            os.kill(three[2].workers()[0], signal.SIGKILL)
            gone = {f"x-{n}": 1 for n in range(4)}
            # A lease, a quarter of one until somebody looks, a second's tick: 27 s with leases of 20 s.
            for watcher in watchers:
                until(lambda watcher=watcher: left(watcher) == gone, LEASE * 1.25 + 2 + 1.5, f"{left(watcher)}")
            assert users(watchers[0]) == ["eve"] * 3 + [f"y-{n}" for n in range(4)]
            # Those of a second node too; by then everybody has looked again, and the first were not said twice.
            os.kill(three[1].workers()[0], signal.SIGKILL)
            gone |= {f"y-{n}": 1 for n in range(4)} | {"eve": 1}
            for watcher in watchers[:2]:
                until(lambda watcher=watcher: left(watcher) == gone, LEASE * 1.25 + 2 + 1.5, f"{left(watcher)}")
            assert users(watchers[0]) == ["eve", "eve"]


def test_a_node_that_only_slept_brings_its_users_back(three: list[Node]) -> None:
    tenant = "t" + secrets.token_hex(5)
    with watching(three[:1], tenant) as (watcher,):
        client = plain(three[1], tenant, "sleepy")
        with stopping(client):
            assert client.call(WS, "join_workspace", {"workspaceId": "w1"})["ok"]
            watcher.wait("user_joined")
            (worker,) = three[1].workers()
            os.kill(worker, signal.SIGSTOP)
            try:
                watcher.wait("user_left", 1, LEASE * 1.25 + 4)
                assert users(watcher) == ["eve"]
            finally:
                os.kill(worker, signal.SIGCONT)
            assert watcher.wait("user_joined", 2)[0]["user"] == watcher.heard("user_joined")[1]["user"]
            assert users(watcher) == ["eve", "sleepy"]
            assert client.call(WS, "update_workspace", {"workspaceId": "w1", "state": {"still": "here"}})["ok"]


def test_nothing_of_a_workspace_is_left_on_a_node_when_all_have_gone(
    three: list[Node], redis_server: RedisServer
) -> None:
    tenant = "t" + secrets.token_hex(5)
    clients = [plain(three[0], tenant, f"user-{n}") for n in range(5)]
    with stopping(*clients):
        for client in clients:
            for workspace in ("w1", "w2"):
                assert client.call(WS, "join_workspace", {"workspaceId": workspace})["ok"]
            assert client.call(WS, "update_workspace", {"workspaceId": "w1", "state": {"a": 1}})["ok"]

    def leftovers() -> Any:
        return requests.get(three[0].url + "/_counts", timeout=5).json()["leftovers"]

    until(lambda: not any(leftovers().values()), 10, f"{leftovers()}")
    with redis_server.client() as redis:
        keys = {key.decode().rpartition("}:")[2]: redis.pttl(key) for key in redis.scan_iter(f"*{{{tenant}}}*")}
    assert not any(name.startswith(("ws-users", "ws-leases")) for name in keys), keys
    assert 0 < keys["ws:w1"] <= 86_400_000 and "ws:w2" not in keys
    assert all(life > 0 for life in keys.values()), "every key has an end"
