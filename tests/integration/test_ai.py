"""/ai on a real server: answers, streams, faults of the AI service, cancellation, conversations, and whose is what."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.chat_completions import TEXT, WORDS, ChatCompletions
from tests.plain_client import EVENT, Plain
from tests.servers import Node, RedisServer, stopping, until
from tests.tenants import Tenant

AI = "/ai"
NewTenant = Callable[[Node], Tenant]
APPLICATION = "tests.integration.apps.ai:application"
TERMINAL = ("ai_response", "ai_stream_end", "ai_error")
USAGE = {"promptTokens": 7, "completionTokens": 9, "totalTokens": 16}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatCompletions]:
    server = ChatCompletions()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ai_node(shared_redis: RedisServer, upstream: ChatCompletions) -> Iterator[Node]:
    """One worker, whose AI service is the tests' own; it gives up after four seconds, and waits six for clients."""
    node = Node(
        application=APPLICATION,
        REDIS_URL=shared_redis.url,
        REDIS_PREFIX="ai",
        AI_BACKEND="openai",
        OPENAI_BASE_URL=upstream.url,
        OPENAI_API_KEY="sk-ours",
        OPENAI_DEFAULT_MODEL="normal",
        SOCKET_RATE_LIMIT="0",
        TEST_PIECE="4",
        TEST_TOTAL="12",
        TEST_ABSENT="6",
    )
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def bare_node(shared_redis: RedisServer) -> Iterator[Node]:
    """One worker without an AI service."""
    node = Node(application=APPLICATION, REDIS_URL=shared_redis.url, REDIS_PREFIX="bare")
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def slow_node(shared_redis: RedisServer, upstream: ChatCompletions) -> Iterator[Node]:
    """One worker, whose AI service takes its time."""
    env = {"AI_BACKEND": "openai", "OPENAI_BASE_URL": upstream.url, "OPENAI_DEFAULT_MODEL": "slow"}
    node = Node(application=APPLICATION, REDIS_URL=shared_redis.url, REDIS_PREFIX="slow", **env)
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture
def tenant(ai_node: Node, new_tenant: NewTenant) -> Tenant:
    return new_tenant(ai_node)


def ask(client: Plain, request_id: str, prompt: str = "hello", **more: Any) -> Any:
    return client.call(AI, "ai_request", {"requestId": request_id, "prompt": prompt, **more})


def asked(client: Plain, request_id: str, prompt: str = "hello", **more: Any) -> None:
    assert ask(client, request_id, prompt, **more) == {"ok": True, "data": {"requestId": request_id, "accepted": True}}


def ended(client: Plain, request_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a request's events up to its terminal one."""
    heard = []
    while True:
        message = client._next(lambda m: m.kind == EVENT and m.content[1].get("requestId") == request_id)
        heard.append((message.content[0], message.content[1]))
        if message.content[0] in TERMINAL:
            return heard


def text_of(heard: list[tuple[str, dict[str, Any]]]) -> str:
    chunks = [payload for name, payload in heard if name == "ai_stream_chunk"]
    assert [chunk["index"] for chunk in chunks] == list(range(len(chunks)))
    return "".join(chunk["chunk"] for chunk in chunks)


def refused(answer: Any) -> str:
    assert answer["ok"] is False, answer
    return str(answer["error"]["code"])


# Answers


def test_a_stream_begins_goes_on_and_ends(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", stream=True)
    heard = ended(client, "r1")
    assert [name for name, _ in heard] == ["ai_stream_start"] + ["ai_stream_chunk"] * len(WORDS) + ["ai_stream_end"]
    assert all(payload.pop("timestamp")[10] == "T" for _, payload in heard)
    assert heard[0][1] == {"requestId": "r1", "model": "normal"}
    assert [payload for _, payload in heard[1:-1]] == [
        {"requestId": "r1", "chunk": word, "index": index} for index, word in enumerate(WORDS)
    ]
    assert heard[-1][1] == {"requestId": "r1", "status": "completed", "usage": USAGE, "finishReason": "stop"}


def test_a_whole_answer_is_one_event(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", model="other")
    ((name, payload),) = ended(client, "r1")
    assert name == "ai_response" and payload.pop("timestamp")
    expected = {"requestId": "r1", "response": TEXT, "model": "upstream-other", "usage": USAGE, "finishReason": "stop"}
    assert payload == expected


def test_text_is_exact_however_it_is_cut(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", stream=True, model="odd")
    assert text_of(ended(client, "r1")) == TEXT
    asked(client, "r2", stream=True, model="halves")
    assert text_of(ended(client, "r2")) == "a🎉b\ufffdc"


def test_without_an_ack_the_answer_is_an_event(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    client.emit(AI, "ai_request", {"requestId": "r1", "prompt": "hello", "stream": True})
    assert client.told(AI, "ai_request") == {"requestId": "r1", "accepted": True}
    ended(client, "r1")
    client.emit(AI, "cancel_stream", {"requestId": "r1"})
    assert client.told(AI, "cancel_stream") == {"requestId": "r1"}
    client.emit(AI, "resume_stream", {"requestId": "r1", "after": 6})
    resumed = client.told(AI, "resume_stream")
    assert resumed["chunks"] == [{"chunk": "\n\nend", "index": 7}, {"chunk": ".", "index": 8}]
    assert (resumed["status"], resumed["usage"]) == ("completed", USAGE)
    client.emit(AI, "clear_history")
    assert client.told(AI, "history_cleared")["success"] is True


def test_what_is_wrong_is_refused_with_its_path(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    for payload, path in (
        ({"prompt": "p"}, "$.requestId"),
        ({"requestId": "r", "prompt": "p", "options": {"maxTokens": 0}}, "$.options.maxTokens"),
    ):
        answer = client.call(AI, "ai_request", payload)
        assert (refused(answer), answer["error"]["path"]) == ("invalid_payload", path)
    assert refused(client.call(AI, "cancel_stream", {"requestId": "none"})) == "not_found"
    assert refused(client.call(AI, "resume_stream", {"requestId": "none"})) == "not_found"


def test_without_a_backend_the_settings_are_named(bare_node: Node, new_tenant: NewTenant) -> None:
    client = new_tenant(bare_node).plain(AI)
    answer = ask(client, "r1", stream=True)
    told = client.told(AI, "ai_error")
    assert (refused(answer), told["code"], told["requestId"]) == ("ai_unavailable", "ai_unavailable", "r1")
    assert "AI_BACKEND" in told["error"] and "OPENAI_API_KEY" in answer["error"]["message"]
    client.emit(AI, "ai_request", {"requestId": "r2", "prompt": "p"})
    assert client.told(AI, "ai_error")["requestId"] == "r2"
    assert client.told(AI, "error")["code"] == "ai_unavailable"


# Faults

FAULTS = [
    ("401", "ai_unavailable", False),
    ("429", "rate_limited", True),
    ("busier", "rate_limited", True),
    ("500", "unavailable", True),
    ("silent", "unavailable", True),
    ("cut", "unavailable", True),
    ("malformed", "unavailable", True),
]


@pytest.mark.parametrize(
    ("model", "code", "retryable", "stream"),
    [(*fault, stream) for stream in (True, False) for fault in FAULTS if (fault[0], stream) != ("silent", False)]
    + [(model, "unavailable", True, True) for model in ("unfinished", "binary", "failing", "stall")],
)
def test_every_fault_is_one_terminal_event(
    tenant: Tenant, model: str, code: str, retryable: bool, stream: bool
) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", model=model, stream=stream, conversationId="c1")
    name, payload = ended(client, "r1")[-1]
    assert name == ("ai_stream_end" if stream else "ai_error")
    assert (payload["code"], payload["retryable"]) == (code, retryable)
    assert payload.get("status") == ("error" if stream else None) and "sk-" not in payload["error"]
    # Nothing follows, and nothing of it is in the conversation.
    asked(client, "r2", "after the fault", conversationId="c1")
    assert ended(client, "r2")[-1][0] == "ai_response"
    assert not [event for event in client.events(AI) if event[1].get("requestId") == "r1"]


def test_retry_after_is_respected_once(tenant: Tenant, upstream: ChatCompletions) -> None:
    client = tenant.plain(AI)
    began = time.monotonic()
    asked(client, "r1", f"busy {tenant.name}", model="busy", stream=True)
    assert text_of(ended(client, "r1")) == TEXT and time.monotonic() - began >= 1
    assert len(upstream.asked(f"busy {tenant.name}")) == 2


# Cancelling


@pytest.mark.parametrize("model", ["endless", "silent", "stall", "busier"])
@pytest.mark.parametrize("stream", [True, False])
def test_cancelling_closes_the_connection_upstream_within_a_second(
    tenant: Tenant, upstream: ChatCompletions, model: str, stream: bool
) -> None:
    if not stream and model in ("endless", "stall"):
        model = "slow"
    client, tab = tenant.plain(AI), tenant.plain(AI)
    prompt = f"cancel {tenant.name}"
    asked(client, "r1", prompt, model=model, stream=stream)
    seen = upstream.wait_asked(prompt)
    if model in ("endless", "stall"):
        until(lambda: seen.sent >= 4)
    began = time.monotonic()
    assert tab.call(AI, "cancel_stream", {"requestId": "r1"}) == {"ok": True, "data": {"requestId": "r1"}}
    name, payload = ended(client, "r1")[-1]
    assert time.monotonic() - began < 1
    if stream:
        assert (name, payload["status"]) == ("ai_stream_end", "cancelled") and "error" not in payload
    else:
        assert (name, payload["code"]) == ("ai_error", "conflict")
    if model == "busier":
        # It waited to try again, and doesn't any more.
        asked(client, "r2", "next")
        ended(client, "r2")
        time.sleep(max(0.0, began + 1.2 - time.monotonic()))
        assert len(upstream.asked(prompt)) == 1
    else:
        until(lambda: seen.closed, 2, "the connection is closed")
        assert seen.closed is not None and seen.closed - began < 1
    assert not [event for event in client.events(AI) if event[1].get("requestId") == "r1"]


def test_a_stream_whose_owner_stays_away_is_cancelled(tenant: Tenant, upstream: ChatCompletions) -> None:
    prompt = f"away {tenant.name}"
    gone, back = tenant.plain(AI), tenant.plain(AI)
    asked(gone, "r1", prompt, model="endless", stream=True)
    seen = upstream.wait_asked(prompt)
    gone.close()
    until(lambda: seen.closed, 20, "the stream is cancelled")
    answer = until(lambda: _over(back, "r1"), 5)
    assert answer["status"] == "cancelled"


def test_a_stream_goes_on_while_another_tab_follows(tenant: Tenant, upstream: ChatCompletions) -> None:
    prompt = f"followed {tenant.name}"
    gone, tab = tenant.plain(AI), tenant.plain(AI)
    asked(gone, "r1", prompt, model="slow", stream=True)
    resumed = tab.call(AI, "resume_stream", {"requestId": "r1"})["data"]
    gone.close()
    heard = ended(tab, "r1")
    text = "".join(chunk["chunk"] for chunk in resumed["chunks"])
    text += "".join(payload["chunk"] for name, payload in heard if name == "ai_stream_chunk")
    assert text == TEXT * 20 and heard[-1][1]["status"] == "completed"


def _over(client: Plain, request_id: str) -> Any:
    answer = client.call(AI, "resume_stream", {"requestId": request_id})["data"]
    return answer if answer["status"] != "running" else None


# Whose is what


def test_an_id_in_use_is_a_conflict_and_more_than_three_are_rate_limited(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    for number in range(3):
        asked(client, f"r{number}", model="endless", stream=True)
    assert refused(ask(client, "r1", stream=True)) == "conflict"
    assert refused(ask(client, "r3", stream=True)) == "rate_limited"
    # The refused one is not in use, and the others go on undisturbed.
    asked(tenant.plain(AI, user="bob"), "r1", stream=True)
    for number in range(3):
        client.call(AI, "cancel_stream", {"requestId": f"r{number}"})
        assert ended(client, f"r{number}")[-1][1]["status"] == "cancelled"
    asked(client, "r3", stream=True)
    assert text_of(ended(client, "r3")) == TEXT
    assert refused(ask(client, "r3")) == "conflict"


def test_nobody_sees_cancels_or_resumes_anothers(tenant: Tenant, new_tenant: NewTenant) -> None:
    ann, bob = tenant.plain(AI), tenant.plain(AI, user="bob")
    namesake = new_tenant(tenant.node).plain(AI)
    asked(ann, "r1", model="endless", stream=True)
    for other in (bob, namesake):
        assert refused(other.call(AI, "cancel_stream", {"requestId": "r1"})) == "not_found"
        assert refused(other.call(AI, "resume_stream", {"requestId": "r1"})) == "not_found"
    assert ann.call(AI, "cancel_stream", {"requestId": "r1"})["ok"]
    ended(ann, "r1")
    for other in (bob, namesake):
        assert other.events(AI) == []


def test_a_connection_without_the_scope_is_refused(tenant: Tenant) -> None:
    client = tenant.plain()
    answer = client.join(AI, {"token": tenant.token(scope="logs:read")})
    assert answer.content["data"]["code"] == "forbidden"


# Resuming


def test_resuming_loses_nothing_and_tells_nothing_twice(tenant: Tenant) -> None:
    """Clients come one after the other, at every moment of a stream: between two chunks, and in the midst of one."""
    first = tenant.plain(AI)
    tabs = [tenant.plain(AI) for _ in range(20)]
    asked(first, "r1", model="slow", stream=True)
    have = []
    for tab in tabs:
        have.append(tab.call(AI, "resume_stream", {"requestId": "r1"})["data"]["chunks"])
        first.told(AI, "ai_stream_chunk")
    for tab, begun in zip(tabs, have, strict=True):
        heard = ended(tab, "r1")
        told = [*begun, *(payload for name, payload in heard if name == "ai_stream_chunk")]
        assert [chunk["index"] for chunk in told] == list(range(len(WORDS) * 20))
        assert "".join(chunk["chunk"] for chunk in told) == TEXT * 20


def test_many_missed_chunks_come_several_in_one(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", model="many", stream=True)
    whole = text_of(ended(client, "r1"))
    answer = client.call(AI, "resume_stream", {"requestId": "r1"})["data"]
    assert answer["status"] == "completed" and len(answer["chunks"]) <= 500
    assert "".join(chunk["chunk"] for chunk in answer["chunks"]) == whole and len(whole) > 2000
    assert answer["chunks"][-1]["index"] == 1199


# Conversations


def test_a_conversation_is_remembered_until_it_is_cleared(tenant: Tenant, upstream: ChatCompletions) -> None:
    client = tenant.plain(AI)
    first, second, third = (f"{number} of {tenant.name}" for number in ("first", "second", "third"))
    asked(client, "r1", first, conversationId="c1")
    ended(client, "r1")
    asked(client, "r2", second, conversationId="c1", stream=True)
    ended(client, "r2")
    said = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": TEXT},
        {"role": "user", "content": second},
    ]
    assert upstream.asked(second)[0].body["messages"] == said
    # Neither another user, nor another conversation, nor a request without one has any of it.
    bob = tenant.plain(AI, user="bob")
    for number, (other, more) in enumerate(
        ((bob, {"conversationId": "c1"}), (client, {"conversationId": "c2"}), (client, {}))
    ):
        prompt = f"apart {number} of {tenant.name}"
        asked(other, f"s{number}", prompt, **more)
        ended(other, f"s{number}")
        assert upstream.asked(prompt)[0].body["messages"] == [{"role": "user", "content": prompt}]
    assert client.call(AI, "clear_history", {"conversationId": "c1"})["data"]["success"] is True
    asked(client, "r3", third, conversationId="c1")
    ended(client, "r3")
    assert upstream.asked(third)[0].body["messages"] == [{"role": "user", "content": third}]


def test_a_failed_or_cancelled_request_leaves_no_half_entry(tenant: Tenant, upstream: ChatCompletions) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", "fails", conversationId="c1", model="cut", stream=True)
    ended(client, "r1")
    asked(client, "r2", "is cancelled", conversationId="c1", model="endless", stream=True)
    client.told(AI, "ai_stream_chunk")
    client.call(AI, "cancel_stream", {"requestId": "r2"})
    ended(client, "r2")
    prompt = f"alone {tenant.name}"
    asked(client, "r3", prompt, conversationId="c1")
    ended(client, "r3")
    assert upstream.asked(prompt)[0].body["messages"] == [{"role": "user", "content": prompt}]


# What is left


def test_sizes_and_times_are_logged_and_neither_prompts_nor_answers(tenant: Tenant) -> None:
    client = tenant.plain(AI)
    asked(client, "r1", "a-very-private-prompt", stream=True)
    ended(client, "r1")
    until(lambda: "21 prompt bytes" in tenant.node.text())
    assert "very-private" not in tenant.node.text() and "naïve" not in tenant.node.text()
    assert "sk-" not in tenant.node.text() and "Traceback" not in tenant.node.text()


def test_nothing_is_left_behind(ai_node: Node, new_tenant: NewTenant) -> None:
    tenant = new_tenant(ai_node)
    client = tenant.plain(AI)
    asked(client, "r0", stream=True)
    ended(client, "r0")
    tenant.stop()
    before = _settled(ai_node)
    clients = [tenant.plain(AI, user=f"user{number}") for number in range(10)]
    for client in clients:
        asked(client, "r1", model="slow", stream=True)
        asked(client, "r2", model="normal")
        client.call(AI, "resume_stream", {"requestId": "r1"})
    for client in clients:
        client.call(AI, "cancel_stream", {"requestId": "r1"})
    tenant.stop()
    after = _settled(ai_node)
    assert after["greenlets"] <= before["greenlets"] + 2 and after["descriptors"] <= before["descriptors"] + 4


def _settled(node: Node) -> Any:
    """Return the node's counts once nothing of any client or request is left; say what is, after 30 s."""
    deadline = time.monotonic() + 30
    while (counts := requests.get(node.url + "/_ai", timeout=20).json())["left"]:
        assert time.monotonic() < deadline, counts["left"]
        time.sleep(0.02)
    return counts
