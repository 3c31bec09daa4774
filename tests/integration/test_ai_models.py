"""Models as they are, on real nodes: slow, cut, empty, particular; a proxy that can't be used; clients that go away."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.chat_completions import TEXT, ChatCompletions
from tests.integration.test_ai import AI, ask, asked, ended, text_of
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping, until
from tests.tenants import Tenant

NewTenant = Callable[[Node], Tenant]
MARK = "[The answer was cut off here"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatCompletions]:
    server = ChatCompletions()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def node(shared_redis: PrivateRedis, upstream: ChatCompletions) -> Iterator[Node]:
    """One worker that gives the AI service six seconds, longer than a busy machine stands still, and clients six."""
    env = {"AI_BACKEND": "openai", "OPENAI_BASE_URL": upstream.url, "AI_TIMEOUT": "6", "AI_KEEP": "6"}
    made = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="models", **env)
    with stopping(made):
        yield made.wait_ready()


@pytest.fixture
def tenant(node: Node, new_tenant: NewTenant) -> Tenant:
    return new_tenant(node)


def test_silence_ends_a_request_and_comments_are_none(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    # The first of a node takes longer.
    asked(client, "r0", model="normal", stream=True)
    assert text_of(ended(client, "r0")) == TEXT
    asked(client, "r1", model="silent", stream=True)
    asked(client, "r2", model="silent")
    asked(client, "r3", model="comments", stream=True)
    assert ended(client, "r1")[-1][1]["code"] == ended(client, "r2")[-1][1]["code"] == "unavailable"
    heard = ended(client, "r3")
    assert text_of(heard) == TEXT and heard[-1][1]["status"] == "completed", heard


@pytest.mark.parametrize("stream", [True, False])
def test_how_an_answer_ended_is_told_and_remembered(tenant: Tenant, upstream: ChatCompletions, stream: bool) -> None:
    client = tenant.plain(AI)
    ends = []
    for reason in ("length", "content_filter", "stop"):
        asked(
            client, reason, model=f"end:{reason}", stream=stream, prompt=f"{reason} {tenant.name}", conversationId="c"
        )
        ends.append(ended(client, reason)[-1][1])
    assert [end["finishReason"] for end in ends] == ["length", "content_filter", "stop"]
    asked(client, "resumed", model="empty:length", stream=stream, prompt=f"last {tenant.name}", conversationId="c")
    name, payload = ended(client, "resumed")[-1]
    assert name == ("ai_stream_end" if stream else "ai_error")
    assert (payload["code"], payload["retryable"], payload["finishReason"]) == ("invalid_payload", False, "length")
    said = [one["content"] for one in upstream.wait_asked(f"last {tenant.name}").body["messages"]]
    assert len(said) == 5, "the cut answer as such, the filtered one not at all"
    assert said[1].startswith(TEXT) and MARK in said[1] and said[3] == TEXT
    answer = client.call(AI, "resume_stream", {"requestId": "length"})
    assert answer["data"]["finishReason"] == "length"


def test_what_a_model_refuses_is_left_out(tenant: Tenant, upstream: ChatCompletions) -> None:
    client = tenant.plain(AI)
    model = "without:max_tokens,temperature,stream_options"
    for request_id in ("r1", "r2"):
        prompt = f"{request_id} {tenant.name}"
        asked(client, request_id, prompt, model=model, stream=True, options={"maxTokens": 50, "temperature": 0.5})
        assert text_of(ended(client, request_id)) == TEXT
    assert len(upstream.asked(f"r1 {tenant.name}")) == 4 and len(upstream.asked(f"r2 {tenant.name}")) == 1
    assert upstream.asked(f"r2 {tenant.name}")[0].body["max_completion_tokens"] == 50


def test_a_request_goes_on_without_clients_and_joins_its_conversation(
    tenant: Tenant, upstream: ChatCompletions
) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", f"away {tenant.name}", model="slow", stream=True, conversationId="c")
    client.told(AI, "ai_stream_chunk")
    client.close()
    # Some four seconds of an answer that nobody hears, and nobody is asked to go on with.
    again = tenant.plain(AI)
    until(lambda: again.call(AI, "resume_stream", {"requestId": "r1"})["data"]["status"] != "running", 20)
    kept = again.call(AI, "resume_stream", {"requestId": "r1"})["data"]
    assert kept["status"] == "completed" and "".join(one["chunk"] for one in kept["chunks"]) == TEXT * 20
    asked(again, "r2", f"back {tenant.name}", model="normal", conversationId="c")
    ended(again, "r2")
    said = [one["content"] for one in upstream.wait_asked(f"back {tenant.name}").body["messages"]]
    assert said == [f"away {tenant.name}", TEXT * 20, f"back {tenant.name}"]


def test_a_request_that_nobody_follows_for_long_is_cancelled(tenant: Tenant, upstream: ChatCompletions) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", f"gone {tenant.name}", model="endless", stream=True)
    client.told(AI, "ai_stream_chunk")
    client.close()
    seen = upstream.wait_asked(f"gone {tenant.name}")
    until(lambda: seen.closed, 30, "the upstream request is closed")
    assert seen.closed is not None and seen.closed - seen.began > 5


def test_a_request_that_comes_twice_is_one(tenant: Tenant, upstream: ChatCompletions) -> None:
    client, other = tenant.plain(AI), tenant.plain(AI)
    prompt, more = f"twice {tenant.name}", {"model": "slow", "stream": True, "options": {"temperature": 0.5}}
    asked(client, "r1", prompt, **more)
    asked(client, "r1", prompt, **more)
    client.told(AI, "ai_stream_chunk")
    asked(other, "r1", prompt, **more)
    assert ask(other, "r1", prompt, **{**more, "stream": False})["error"]["code"] == "conflict"
    for one in (client, other):
        end = [payload for name, payload in ended(one, "r1") if name == "ai_stream_end"]
        assert [payload["status"] for payload in end] == ["completed"]
    asked(client, "r1", prompt, **more)
    late = tenant.plain(AI)
    asked(late, "r1", prompt, **more)
    assert ended(late, "r1")[-1][1]["status"] == "completed"
    assert len(upstream.asked(prompt)) == 1
    assert not [one for one in client.events(AI) + late.events(AI) if one[0] == "ai_stream_end"]


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
def test_a_proxy_that_cannot_be_used_stops_ai_alone(
    shared_redis: PrivateRedis, new_tenant: NewTenant, name: str
) -> None:
    env: dict[str, Any] = {"AI_BACKEND": "openai", "OPENAI_API_KEY": "sk-ours", "OPENAI_DEFAULT_MODEL": "m"}
    made = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="proxied", **env, **{name: "socks5://user:hidden@127.0.0.1:1"})
    with stopping(made):
        tenant = new_tenant(made.wait_ready())
        tenant.log("served")
        client = tenant.plain(AI, "/logs")
        asked(client, "r1")
        ((event, payload),) = ended(client, "r1")
        assert (event, payload["code"], payload["retryable"]) == ("ai_error", "ai_unavailable", False)
        assert "socksio" in payload["error"] and "hidden" not in payload["error"] + made.text()
