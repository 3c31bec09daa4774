"""/ai on two nodes: cancelled, resumed and watched from the other one, and a node that is killed."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chat_completions import TEXT, ChatCompletions
from tests.plain_client import EVENT, Plain
from tests.servers import Node, RedisServer, run_js, stopping, token, until
from tests.tenants import Tenant
from tests.watcher import Watcher

AI = "/ai"
SLOW_TEXT = TEXT * 20


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatCompletions]:
    server = ChatCompletions()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ai_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    with stopping(server):
        yield server


def started(redis: RedisServer, upstream: ChatCompletions, **env: str) -> Node:
    return Node(
        application="tests.integration.apps.ai:application",
        REDIS_URL=redis.url,
        AI_BACKEND="openai",
        OPENAI_BASE_URL=upstream.url,
        OPENAI_DEFAULT_MODEL="slow",
        SOCKET_RATE_LIMIT="0",
        **env,
    )


@pytest.fixture(scope="module")
def nodes(ai_redis: RedisServer, upstream: ChatCompletions) -> Iterator[tuple[Node, Node]]:
    one, two = (started(ai_redis, upstream) for _ in range(2))
    with stopping(one, two):
        yield one.wait_ready(), two.wait_ready()


@pytest.fixture
def tenants(nodes: tuple[Node, Node]) -> Iterator[tuple[Tenant, Tenant]]:
    """One tenant, as seen on each node."""
    one = Tenant(nodes[0])
    two = Tenant(nodes[1], one.name)
    with stopping(one, two):
        yield one, two


def live(client: Plain, request_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a request's events up to its end."""
    heard = []
    while True:
        message = client._next(lambda m: m.kind == EVENT and m.content[1].get("requestId") == request_id)
        heard.append((message.content[0], message.content[1]))
        if message.content[0] == "ai_stream_end":
            return heard


def chunks(heard: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    return [payload for name, payload in heard if name == "ai_stream_chunk"]


def whole(*parts: list[dict[str, Any]]) -> str:
    """Return the text of chunks whose indices leave nothing out and tell nothing twice."""
    told = [chunk for part in parts for chunk in part]
    assert [chunk["index"] for chunk in told] == list(range(len(told)))
    return "".join(chunk["chunk"] for chunk in told)


def test_cancelling_from_another_node_closes_the_connection_within_a_second(
    tenants: tuple[Tenant, Tenant], upstream: ChatCompletions
) -> None:
    here, there = (tenant.plain(AI) for tenant in tenants)
    for number in range(5):
        prompt = f"cancel {number} {tenants[0].name}"
        request = {"requestId": f"r{number}", "prompt": prompt, "stream": True, "model": "endless"}
        assert here.call(AI, "ai_request", request)["ok"]
        seen = upstream.wait_asked(prompt)
        here.told(AI, "ai_stream_chunk")
        began = time.monotonic()
        assert there.call(AI, "cancel_stream", {"requestId": f"r{number}"})["ok"]
        until(lambda seen=seen: seen.closed, 5, "the connection is closed")
        assert seen.closed is not None and seen.closed - began < 1
        assert live(here, f"r{number}")[-1][1]["status"] == "cancelled"
    assert there.events(AI) == []


@pytest.mark.parametrize("round_number", range(4))
def test_a_stream_resumed_on_another_node_is_whole(
    tenants: tuple[Tenant, Tenant], round_number: int, upstream: ChatCompletions
) -> None:
    first = tenants[round_number % 2].plain(AI)
    request = {"requestId": "r1", "prompt": "resume", "stream": True}
    assert first.call(AI, "ai_request", request)["ok"]
    have = [first.told(AI, "ai_stream_chunk") for _ in range(3 + 7 * round_number)]
    first.close()
    # Hops from node to node, each time with what it has.
    for hop in range(6):
        client = tenants[hop % 2].plain(AI)
        answer = client.call(AI, "resume_stream", {"requestId": "r1", "after": len(have) - 1})["data"]
        assert answer["status"] == "running"
        have += answer["chunks"]
        have += [client.told(AI, "ai_stream_chunk") for _ in range(5 + hop)]
        assert [chunk["index"] for chunk in have] == list(range(len(have)))
        if hop < 5:
            client.close()
    heard = live(client, "r1")
    assert heard[-1][1]["status"] == "completed"
    assert whole(have, chunks(heard)) == SLOW_TEXT


def test_all_of_a_users_clients_that_follow_get_the_same(tenants: tuple[Tenant, Tenant]) -> None:
    first = tenants[0].plain(AI)
    assert first.call(AI, "ai_request", {"requestId": "r1", "prompt": "all", "stream": True})["ok"]
    others = [tenants[number % 2].plain(AI) for number in range(6)]
    begun = [other.call(AI, "resume_stream", {"requestId": "r1"})["data"]["chunks"] for other in others]
    assert whole(chunks(live(first, "r1"))) == SLOW_TEXT
    for other, start in zip(others, begun, strict=True):
        heard = live(other, "r1")
        assert whole(start, chunks(heard)) == SLOW_TEXT
        assert [name for name, _ in heard].count("ai_stream_end") == 1


def test_three_at_once_are_counted_over_both_nodes(tenants: tuple[Tenant, Tenant]) -> None:
    clients = [tenant.plain(AI) for tenant in tenants]
    for number in range(3):
        request = {"requestId": f"r{number}", "prompt": "p", "stream": True, "model": "endless"}
        assert clients[number % 2].call(AI, "ai_request", request)["ok"]
    for number, client in enumerate(clients):
        answer = client.call(AI, "ai_request", {"requestId": f"s{number}", "prompt": "p"})
        assert answer["error"]["code"] == "rate_limited"
        assert client.call(AI, "ai_request", {"requestId": "r0", "prompt": "p"})["error"]["code"] == "conflict"
    for number in range(3):
        assert clients[0].call(AI, "cancel_stream", {"requestId": f"r{number}"})["ok"]


def test_the_javascript_client_streams_resumes_elsewhere_and_cancels(nodes: tuple[Node, Node]) -> None:
    lines = run_js("ai.mjs", nodes[0].url, nodes[1].url, token("ann", tenants=["javascript"]), "hello")
    accepted, resumed, told, end, again, last = map(json.loads, lines.strip().split("\n"))
    assert accepted["accepted"]["data"] == {"requestId": "js", "accepted": True}
    assert resumed == {"ok": True, "status": "running"}
    assert told["text"] == SLOW_TEXT and told["indices"] == list(range(len(told["indices"])))
    assert end["status"] == "completed" and end["usage"]["totalTokens"] == 16
    assert again["ok"] and [(one["event"], one["status"]) for one in last] == [("ai_stream_end", "cancelled")]


def test_the_python_client_streams(nodes: tuple[Node, Node]) -> None:
    watcher = Watcher(nodes[0].url, AI, auth={"token": token("py")})
    with stopping(watcher):
        assert watcher.call(AI, "ai_request", {"requestId": "r1", "prompt": "python", "stream": True})["ok"]
        assert watcher.wait("ai_stream_end", seconds=20)[0]["status"] == "completed"
        assert whole(watcher.heard("ai_stream_chunk")) == SLOW_TEXT


def test_a_killed_nodes_streams_end_once_within_30_seconds(ai_redis: RedisServer, upstream: ChatCompletions) -> None:
    dying, *others = (started(ai_redis, upstream, REDIS_PREFIX="kill") for _ in range(3))
    with stopping(dying, *others):
        for node in (dying, *others):
            node.wait_ready()
        tenant = Tenant(dying)
        followers = [Tenant(node, tenant.name).plain(AI) for node in others]
        client = tenant.plain(AI)
        for number in range(2):
            request = {"requestId": f"r{number}", "prompt": "p", "stream": number == 0, "model": "endless"}
            request["model"] = "endless" if number == 0 else "silent"
            assert client.call(AI, "ai_request", request)["ok"]
            for follower in followers:
                assert follower.call(AI, "resume_stream", {"requestId": f"r{number}"})["data"]["status"] == "running"
        (pid,) = dying.workers()
        began = time.monotonic()
        os.kill(dying.process.pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        for follower in followers:
            end = follower.told(AI, "ai_stream_end", 30)
            failure = follower.told(AI, "ai_error", 30)
            assert time.monotonic() - began < 30
            assert (end["requestId"], end["status"], end["retryable"]) == ("r0", "error", True)
            assert (failure["requestId"], failure["code"]) == ("r1", "unavailable")
        # Their places are free again, and no second end comes, whichever node looks.
        for number, follower in enumerate(followers):
            request = {"requestId": f"new{number}", "prompt": "p", "model": "normal", "stream": True}
            assert follower.call(AI, "ai_request", request)["ok"]
            assert live(follower, f"new{number}")[-1][1]["status"] == "completed"
        time.sleep(5)  # longer than the time between two looks
        for follower in followers:
            assert not [one for one in follower.events(AI) if one[0] in ("ai_stream_end", "ai_error")]
            assert follower.call(AI, "resume_stream", {"requestId": "r0"})["data"]["status"] == "error"
            follower.close()
        tenant.stop()


def test_a_redis_that_restarts_in_mid_stream_costs_nothing(
    tenants: tuple[Tenant, Tenant], ai_redis: RedisServer
) -> None:
    client = tenants[0].plain(AI)
    assert client.call(AI, "ai_request", {"requestId": "r1", "prompt": "restart", "stream": True})["ok"]
    have = [client.told(AI, "ai_stream_chunk") for _ in range(10)]
    ai_redis.stop()
    ai_redis.start()
    other = until(lambda: _joined(tenants[1]), 20)
    answer = until(lambda: _ended(other), 20)
    assert answer["status"] == "completed"
    assert "".join(chunk["chunk"] for chunk in answer["chunks"]) == SLOW_TEXT
    assert [chunk["chunk"] for chunk in have] == [chunk["chunk"] for chunk in answer["chunks"][: len(have)]]


def _joined(tenant: Tenant) -> Plain | None:
    try:
        return tenant.plain(AI)
    except Exception:
        return None


def _ended(client: Plain) -> Any:
    answer = client.call(AI, "resume_stream", {"requestId": "r1"})
    return answer["data"] if answer["ok"] and answer["data"]["status"] != "running" else None
