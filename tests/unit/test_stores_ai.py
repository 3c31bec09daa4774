"""Requests, chunks and conversations in a real Redis, the oldest that must do included."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, plain_event
from mintflow_realtime.protocol.errors import Conflict, NotFound, RateLimited, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.ai.store import (
    MAX_CONVERSATIONS,
    MAX_EXCHANGES,
    MAX_HISTORY_BYTES,
    AiStore,
    Ending,
    RequestKey,
)
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis

R1 = RequestKey("acme", "ann", "r1")


class NamespaceContext:
    """A store and the publisher that runs its changes."""

    def __init__(self, client: RedisClient, keys: Keys, lease_ms: int = 15_000) -> None:
        self.client, self.keys = client, keys
        self.store = AiStore(client, keys, lease_ms)
        self.publisher = Publisher(client, keys, Caps())

    def accept(self, key: RequestKey = R1, owner: str = "n1", most: int = 3, stream: bool = True) -> None:
        self.store.accept(key, owner=owner, model="m", stream=stream, most=most)

    def publish(self, change: Any, key: RequestKey = R1) -> None:
        self.publisher.publish(key.tenant, "/ai", [plain_event(("acme:",), "event", {})], change)

    def chunk(self, index: int, text: str, key: RequestKey = R1, owner: str = "n1") -> None:
        self.publish(self.store.chunk(key, owner, index, text), key)

    def end(self, key: RequestKey = R1, owner: str = "n1", ending: Ending | None = None) -> None:
        self.publish(self.store.end(key, owner, ending or Ending("completed")), key)

    def log(self) -> int:
        return int(self.client.command("XLEN", self.keys.of("acme", "log", "/ai")))

    def say(self, number: int, text: str = "t", conversation: str = "c", user: str = "ann") -> None:
        key = RequestKey("acme", user, f"r{conversation}{number}")
        self.accept(key)
        self.end(key, ending=Ending("completed", conversation_id=conversation, exchange=(f"p{number}", text)))

    def history(self, conversation: str = "c", user: str = "ann") -> list[tuple[str, str]]:
        return self.store.history("acme", user, conversation)


@pytest.fixture
def context(server: PrivateRedis, keys: Keys) -> Iterator[NamespaceContext]:
    client = RedisClient(connect(server.url))
    yield NamespaceContext(client, keys)
    found = [key.decode() for key in client.command("KEYS", f"{keys.prefix}:*")]
    lives = {key: client.command("PTTL", key) for key in found}
    assert all(life > 0 for life in lives.values()), lives
    client.close()


def brief(context: NamespaceContext) -> NamespaceContext:
    """The same with leases of 50 ms."""
    return NamespaceContext(context.client, context.keys, 50)


def test_an_id_in_use_is_a_conflict_for_its_user_alone(context: NamespaceContext) -> None:
    context.accept()
    with pytest.raises(Conflict):
        context.accept(owner="n2")
    context.accept(RequestKey("acme", "bob", "r1"))
    context.accept(RequestKey("other", "ann", "r1"))
    context.end()
    with pytest.raises(Conflict):
        context.accept()


def test_a_user_has_so_many_requests_at_once_and_no_more(context: NamespaceContext) -> None:
    for number in range(3):
        context.accept(RequestKey("acme", "ann", f"r{number}"))
    with pytest.raises(RateLimited):
        context.accept(RequestKey("acme", "ann", "r4"))
    context.accept(RequestKey("acme", "bob", "r4"))
    context.end(RequestKey("acme", "ann", "r1"))
    context.accept(RequestKey("acme", "ann", "r4"))


def test_a_killed_node_holds_no_place_longer_than_its_lease(context: NamespaceContext) -> None:
    brief(context).accept(RequestKey("acme", "ann", "r0"), most=1)
    with pytest.raises(RateLimited):
        context.accept(RequestKey("acme", "ann", "r1"), most=1)
    deadline = time.monotonic() + 5
    while True:
        try:
            context.accept(RequestKey("acme", "ann", "r1"), most=1)
            break
        except RateLimited:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_chunks_are_kept_as_they_came_and_once(context: NamespaceContext) -> None:
    context.accept()
    texts = ["Grüße ", '"\\\n', "", "🎉\u2028", "[]"]
    for index, text in enumerate(texts):
        context.chunk(index, text)
        with pytest.raises(Conflict):
            context.chunk(index, "again")
    kept = context.store.resume(R1, -1, context.publisher.head_key("acme", "/ai"))
    assert [index for index, _ in kept.chunks] == [0, 1, 2, 3, 4]
    assert kept.chunks[3][1] == '"🎉\u2028"'.encode()
    assert kept.fields["next"] == b"5" and kept.head == len(texts)
    assert [index for index, _ in context.store.resume(R1, 2, "-").chunks] == [3, 4]
    assert context.store.resume(RequestKey("acme", "bob", "r1"), -1, "-").fields == {}


def test_only_its_own_node_adds_chunks_and_only_while_it_runs(context: NamespaceContext) -> None:
    with pytest.raises(NotFound):
        context.chunk(0, "nothing runs")
    context.accept()
    with pytest.raises(NotFound):
        context.chunk(0, "another node", owner="n2")
    context.end()
    with pytest.raises(NotFound):
        context.chunk(0, "late")
    assert context.log() == 1


def test_a_request_ends_once(context: NamespaceContext) -> None:
    context.accept()
    with pytest.raises(NotFound):
        context.end(owner="n2")
    context.end(ending=Ending("error", error=Unavailable("gone")))
    with pytest.raises(NotFound):
        context.end()
    with pytest.raises(Conflict):
        context.end(owner="")
    assert context.log() == 1
    fields = context.store.resume(R1, -1, "-").fields
    assert (fields["status"], fields["error"], fields["code"], fields["retryable"]) == (
        b"error",
        b"gone",
        b"unavailable",
        b"1",
    )


def test_a_request_that_redis_lost_can_be_ended_by_its_node(context: NamespaceContext) -> None:
    context.accept()
    context.client.command("DEL", context.keys.of("acme", "ai", "request", "ann/r1"))
    context.end()
    with pytest.raises(NotFound):
        context.end()


def test_an_orphan_is_ended_once_its_lease_is_over_and_not_before(context: NamespaceContext) -> None:
    context.accept()
    with pytest.raises(Conflict):
        context.end(owner="")
    assert context.store.orphans("acme", 10) == []
    brief(context).store.watch("acme", [(R1, "n1", False)])
    deadline = time.monotonic() + 5
    while not context.store.orphans("acme", 10):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert context.store.orphans("acme", 10) == [R1]
    assert context.store.streamed(R1)
    context.end(owner="", ending=Ending("error", error=Unavailable("gone")))
    assert context.store.orphans("acme", 10) == []
    with pytest.raises(Conflict):
        context.end(owner="")
    with pytest.raises(NotFound):
        context.end()
    assert context.log() == 1


def test_an_orphan_that_is_forgotten_leaves_no_name(context: NamespaceContext) -> None:
    brief(context).accept()
    context.client.command("DEL", context.keys.of("acme", "ai", "request", "ann/r1"))
    time.sleep(0.06)
    with pytest.raises(NotFound):
        context.end(owner="")
    assert context.client.command("EXISTS", context.keys.of("acme", "ai", "running")) == 0


def test_the_watch_tells_of_cancellation_absence_and_the_end(context: NamespaceContext) -> None:
    context.accept()
    (standing,) = context.store.watch("acme", [(R1, "n1", False)])
    assert standing.status == "running" and not standing.cancelled and standing.absent_ms < 5000
    time.sleep(0.05)
    assert context.store.watch("acme", [(R1, "", False)])[0].absent_ms >= 50
    assert context.store.watch("acme", [(R1, "", True)])[0].absent_ms == 0
    assert context.store.cancel(R1) == "running"
    assert context.store.cancel(RequestKey("acme", "bob", "r1")) is None
    assert context.store.watch("acme", [(R1, "n1", False)])[0].cancelled
    context.end()
    unknown = RequestKey("acme", "ann", "r9")
    assert [one.status for one in context.store.watch("acme", [(R1, "", True), (unknown, "", True)])] == [
        "completed",
        None,
    ]
    assert context.store.cancel(R1) == "completed"


def test_a_whole_answer_is_kept_as_a_chunk(context: NamespaceContext) -> None:
    context.accept(stream=False)
    context.end(ending=Ending("completed", usage='{"totalTokens":1}', answer='"whole"'))
    kept = context.store.resume(R1, -1, "-")
    assert kept.chunks == [(0, b'"whole"')] and kept.fields["usage"] == b'{"totalTokens":1}'


def test_a_conversation_is_told_in_order_and_belongs_to_its_user(context: NamespaceContext) -> None:
    for number in range(3):
        context.say(number)
    context.say(0, user="bob")
    assert context.history() == [("p0", "t"), ("p1", "t"), ("p2", "t")]
    assert context.history(user="bob") == [("p0", "t")] and context.history("d") == []
    assert context.store.history("other", "ann", "c") == []


def test_a_conversation_is_capped_by_messages_and_bytes(context: NamespaceContext) -> None:
    for number in range(MAX_EXCHANGES + 5):
        context.say(number)
    assert [prompt for prompt, _ in context.history()] == [f"p{number}" for number in range(5, MAX_EXCHANGES + 5)]
    third = "x" * (MAX_HISTORY_BYTES // 3)
    for number in range(100, 105):
        context.say(number, third)
    assert [prompt for prompt, _ in context.history()] == ["p103", "p104"]
    context.say(200, "x" * MAX_HISTORY_BYTES)
    assert context.history() == []


def test_a_user_has_so_many_conversations(context: NamespaceContext) -> None:
    for number in range(MAX_CONVERSATIONS + 3):
        context.say(1, conversation=f"c{number}")
    held = [number for number in range(MAX_CONVERSATIONS + 3) if context.history(f"c{number}")]
    assert len(held) == MAX_CONVERSATIONS and held[-1] == MAX_CONVERSATIONS + 2


def test_conversations_are_forgotten_one_or_all(context: NamespaceContext) -> None:
    for conversation in ("c", "d", "e"):
        context.say(1, conversation=conversation)
        context.say(1, conversation=conversation, user="bob")
    context.store.forget("acme", "ann", "c")
    assert (context.history("c"), len(context.history("d"))) == ([], 1)
    context.store.forget("acme", "ann", None)
    assert (context.history("d"), context.history("e")) == ([], [])
    assert all(context.history(name, user="bob") for name in ("c", "d", "e"))
