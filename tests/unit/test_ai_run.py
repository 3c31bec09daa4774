"""One request from acceptance to its end, in threads: a Redis that fails, backends that misbehave."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import UNSET

from mintflow_realtime.ai_backends.base import Completion, Message, Piece, Question
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.ai import MAX_ANSWER_BYTES, MAX_CHUNK_CHARACTERS, Usage
from mintflow_realtime.protocol.envelope import decode
from mintflow_realtime.protocol.errors import RateLimited, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.ai import run as ai_run
from mintflow_realtime.services.ai.answers import resumed
from mintflow_realtime.services.ai.limits import Limits, Stopped
from mintflow_realtime.services.ai.outcome import CUT_MARK
from mintflow_realtime.services.ai.run import Run
from mintflow_realtime.stores.ai.store import AiStore, RequestKey
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis
from tests.servers import until

KEY = RequestKey("acme", "ann", "r1")
USAGE = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
LIMITS = Limits(piece_seconds=0.3, total_seconds=2.0, redis_seconds=0.5)


class Script:
    """A backend that gives what it is told to: pieces, exceptions, and pauses until `killed`."""

    default_model = "script"

    def __init__(self, *parts: Any) -> None:
        self.parts = parts
        self.killed = threading.Event()
        self.closed = threading.Event()
        self.given = 0

    @contextmanager
    def stream(self, question: Question) -> Iterator[Iterator[Piece]]:
        try:
            yield self._give()
        finally:
            self.closed.set()

    def _give(self) -> Iterator[Piece]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            if part is ...:
                self.killed.wait(20)
                return
            self.given += 1
            yield part if isinstance(part, Piece) else Piece(part)

    def complete(self, question: Question) -> Completion:
        pieces = list(self._give())
        reasons = [piece.finish_reason for piece in pieces if piece.finish_reason]
        return Completion("".join(piece.text for piece in pieces), "upstream", USAGE, reasons[0] if reasons else None)

    def close(self) -> None: ...


class Faulty:
    """Redis's door: fails where `fault(call)` says so, after the script ran or instead of it."""

    def __init__(self, inner: RedisClient) -> None:
        self.inner = inner
        self.before: Callable[[], bool] = lambda: False
        self.after: Callable[[], bool] = lambda: False

    def run(self, *args: Any) -> Any:
        if self.before():
            raise Unavailable("instead of it")
        reply = self.inner.run(*args)
        if self.after():
            raise Unavailable("after it")
        return reply

    def command(self, *args: Any) -> Any:
        return self.inner.command(*args)


class Desk:
    """Runs one request and hears what is announced."""

    def __init__(self, server: PrivateRedis, keys: Keys) -> None:
        self.inner = RedisClient(connect(server.url))
        self.runner = Faulty(self.inner)
        self.keys = keys
        self.store = AiStore(self.runner, keys)
        self.publisher = Publisher(self.runner, keys, Caps())
        self.raw = server.client()
        self.ear = self.raw.pubsub(ignore_subscribe_messages=True)
        self.ear.subscribe(self.publisher.channel("acme", "/ai"))
        self.ear.get_message(timeout=1)
        self.threads: list[threading.Thread] = []

    def made(self, backend: Script, *, stream: bool = True, conversation: str = "") -> Run:
        self.store.accept(KEY, owner="n1", model="m", stream=stream, most=3)

        def spawn(work: Callable[[], None]) -> Any:
            thread = threading.Thread(target=work, daemon=True)
            self.threads.append(thread)
            thread.start()
            return Killer(backend)

        return Run(
            KEY,
            "n1",
            Question("m", (Message("user", "a private prompt"),)),
            streamed=stream,
            conversation_id=conversation,
            backend=backend,
            publisher=self.publisher,
            store=self.store,
            spawn=spawn,
            limits=LIMITS,
        )

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        while (message := self.ear.get_message(timeout=0.05)) is not None:
            name, payload = json.loads(decode(message["data"]).arguments)
            found.append((name, payload))
        return found

    def close(self) -> None:
        for thread in self.threads:
            thread.join(5)
        self.ear.close()
        self.raw.close()
        self.inner.close()


class Killer:
    def __init__(self, backend: Script) -> None:
        self.backend = backend

    def kill(self, *, block: bool) -> None:
        self.backend.killed.set()


@pytest.fixture
def desk(shared_redis: PrivateRedis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(ai_run, "RETRY_SECONDS", 0.02)
    made = Desk(shared_redis, keys)
    yield made
    made.close()


def chunks(heard: list[tuple[str, dict[str, Any]]]) -> list[tuple[int, str]]:
    return [(payload["index"], payload["chunk"]) for name, payload in heard if name == "ai_stream_chunk"]


def ends(heard: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [one for one in heard if one[0] in ("ai_response", "ai_stream_end", "ai_error")]


def test_a_stream_is_told_whole_and_ends_once(desk: Desk) -> None:
    backend = Script("one ", "", "two", Piece(usage=USAGE))
    desk.made(backend, conversation="c").work()
    heard = desk.heard()
    assert [name for name, _ in heard] == ["ai_stream_start", "ai_stream_chunk", "ai_stream_chunk", "ai_stream_end"]
    assert chunks(heard) == [(0, "one "), (1, "two")]
    assert heard[-1][1]["status"] == "completed"
    assert heard[-1][1]["usage"] == {"promptTokens": 1, "completionTokens": 2, "totalTokens": 3}
    assert desk.store.history("acme", "ann", "c") == [("a private prompt", "one two")]
    assert backend.closed.is_set()


def test_a_whole_answer_is_one_event(desk: Desk) -> None:
    desk.made(Script("one ", "two"), stream=False, conversation="c").work()
    ((name, payload),) = desk.heard()
    assert name == "ai_response" and payload["response"] == "one two" and payload["model"] == "upstream"
    assert desk.store.history("acme", "ann", "c") == [("a private prompt", "one two")]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        (RateLimited("busy"), "rate_limited", True),
        (ZeroDivisionError("a bug with a private prompt"), "internal", False),
    ],
)
def test_a_failure_is_one_terminal_event_and_no_half_entry(
    desk: Desk, stream: bool, fault: Exception, code: str, retryable: bool
) -> None:
    desk.made(Script("one ", fault), stream=stream, conversation="c").work()
    heard = desk.heard()
    ((name, payload),) = ends(heard)
    assert name == ("ai_stream_end" if stream else "ai_error")
    assert (payload["code"], payload["retryable"]) == (code, retryable) and payload.get("status", "error") == "error"
    assert "private" not in payload["error"]
    assert desk.store.history("acme", "ann", "c") == []


def test_a_silent_backend_is_given_up(desk: Desk) -> None:
    backend = Script("one", ...)
    desk.made(backend).work()
    ((_, payload),) = ends(desk.heard())
    assert (payload["status"], payload["code"], payload["retryable"]) == ("error", "unavailable", True)
    assert backend.closed.wait(2)


def test_a_backend_that_trickles_is_given_up_in_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking = threading.Event()

    class Trickle(Script):
        def _give(self) -> Iterator[Piece]:
            while not self.killed.wait(0.1):
                yield Piece("x")
            ticking.set()

    desk.made(Trickle()).work()
    ((_, payload),) = ends(desk.heard())
    assert payload["code"] == "unavailable" and ticking.wait(2)


@pytest.mark.parametrize("stream", [True, False])
def test_a_stopped_request_ends_once_and_is_read_no_more(desk: Desk, stream: bool) -> None:
    backend = Script("one", ...)
    run = desk.made(backend, stream=stream, conversation="c")
    work = threading.Thread(target=run.work)
    work.start()
    until(lambda: backend.given == 1 and not run._pipe.qsize())
    for _ in range(3):
        run.stop(Stopped())
    work.join(5)
    ((name, payload),) = ends(desk.heard())
    if stream:
        assert (name, payload["status"]) == ("ai_stream_end", "cancelled") and "error" not in payload
    else:
        assert (name, payload["code"], payload["retryable"]) == ("ai_error", "conflict", False)
    assert backend.killed.is_set() and desk.store.history("acme", "ann", "c") == []
    run.stop(Stopped())
    assert desk.heard() == []


def test_a_request_stopped_before_it_began_asks_nobody(desk: Desk) -> None:
    backend = Script("one")
    run = desk.made(backend)
    run.stop(Stopped(Unavailable("shutting down")))
    run.work()
    ((name, payload),) = desk.heard()
    assert (name, payload["status"], payload["error"]) == ("ai_stream_end", "error", "shutting down")
    assert backend.given == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_redis_that_fails_now_and_then_costs_and_doubles_nothing(desk: Desk, when: str) -> None:
    calls = iter(range(1000))
    run = desk.made(Script(*(f"{number} " for number in range(30)), Piece(usage=USAGE)), conversation="c")
    setattr(desk.runner, when, lambda: next(calls) % 3 == 0)
    run.work()
    heard = desk.heard()
    assert chunks(heard) == [(number, f"{number} ") for number in range(30)]
    assert [payload["status"] for _, payload in ends(heard)] == ["completed"]
    assert len(desk.store.history("acme", "ann", "c")) == 1


def test_a_redis_that_stays_away_ends_the_reading(desk: Desk) -> None:
    backend = Script(*(["x"] * 1000), ...)
    run = desk.made(backend)
    away = threading.Event()
    desk.runner.before = lambda: away.is_set() or backend.given > 5 and (away.set() or True)
    run.work()
    assert backend.killed.is_set()
    desk.runner.before = lambda: False
    # Its node could not end it; the one that watches does, once the lease is over.
    assert ends(desk.heard()) == []


def test_a_request_that_another_node_ended_stops(desk: Desk) -> None:
    backend = Script(*(["x"] * 3), ...)
    run = desk.made(backend)
    work = threading.Thread(target=run.work)
    work.start()
    until(lambda: backend.given == 3)
    desk.inner.command("HSET", desk.keys.of("acme", "ai", "request", "ann/r1"), "status", "error")
    run.stop(Stopped(Unavailable("lost")))
    work.join(5)
    assert ends(desk.heard()) == []


def test_an_answer_is_bounded(desk: Desk) -> None:
    desk.made(Script(*(["é" * MAX_CHUNK_CHARACTERS] * 6)), conversation="c").work()
    heard = desk.heard()
    ((_, payload),) = ends(heard)
    assert payload["code"] == "too_large" and len(chunks(heard)) < 6
    assert desk.store.history("acme", "ann", "c") == []


def test_a_huge_piece_comes_as_several_chunks(desk: Desk) -> None:
    text = "\x01" * (MAX_ANSWER_BYTES // 6)
    desk.made(Script(text)).work()
    heard = desk.heard()
    assert "".join(chunk for _, chunk in chunks(heard)) == text and len(chunks(heard)) == 2
    assert ends(heard)[0][1]["status"] == "completed"


def test_a_slow_redis_makes_the_backend_wait(desk: Desk) -> None:
    backend = Script(*(["x"] * 500))
    gate: queue.Queue[None] = queue.Queue()
    run = desk.made(backend)
    desk.runner.before = lambda: gate.get(timeout=10) is not None
    work = threading.Thread(target=run.work)
    work.start()
    gate.put(None)
    until(lambda: backend.given > ai_run.MAX_UNPUBLISHED)
    assert backend.given <= ai_run.MAX_UNPUBLISHED + 3
    desk.runner.before = lambda: False
    gate.put(None)
    work.join(20)
    assert len(chunks(desk.heard())) == 500


def test_signs_of_life_keep_a_request_alive(desk: Desk) -> None:
    class Thinking(Script):
        def _give(self) -> Iterator[Piece]:
            for _ in range(8):
                time.sleep(0.1)
                yield Piece()
            yield Piece("thought", finish_reason="stop")

    desk.made(Thinking()).work()
    heard = desk.heard()
    assert chunks(heard) == [(0, "thought")] and heard[-1][1]["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reason", "joins"),
    [("stop", "one"), ("length", "one" + CUT_MARK), ("content_filter", None), ("tool_calls", "one"), (None, "one")],
)
def test_how_an_answer_ended_is_told_and_only_a_whole_one_joins_as_such(
    desk: Desk, stream: bool, reason: str | None, joins: str | None
) -> None:
    desk.made(Script("one", Piece(finish_reason=reason), Piece(usage=USAGE)), stream=stream, conversation="c").work()
    ((name, payload),) = ends(desk.heard())
    assert name == ("ai_stream_end" if stream else "ai_response") and payload.get("finishReason") == reason
    assert payload.get("status", "completed") == "completed"
    assert desk.store.history("acme", "ann", "c") == ([("a private prompt", joins)] if joins else [])
    kept = resumed(KEY, desk.store.resume(KEY, -1, "-"))
    assert kept.finish_reason == (reason or UNSET)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize(
    ("reason", "code", "retryable"),
    [
        ("stop", "unavailable", True),
        (None, "unavailable", True),
        ("tool_calls", "unavailable", True),
        ("length", "invalid_payload", False),
        ("content_filter", "invalid_payload", False),
        ("error", "unavailable", True),
    ],
)
def test_an_empty_answer_is_an_error(
    desk: Desk, stream: bool, text: str, reason: str | None, code: str, retryable: bool
) -> None:
    desk.made(Script(text, Piece(finish_reason=reason)), stream=stream, conversation="c").work()
    ((name, payload),) = ends(desk.heard())
    assert name == ("ai_stream_end" if stream else "ai_error") and payload.get("status", "error") == "error"
    assert (payload["code"], payload["retryable"], payload.get("finishReason")) == (code, retryable, reason)
    assert desk.store.history("acme", "ann", "c") == []


def test_an_answer_that_fails_in_the_middle_is_an_error(desk: Desk) -> None:
    desk.made(Script("one ", Piece(finish_reason="error")), conversation="c").work()
    ((_, payload),) = ends(desk.heard())
    assert (payload["status"], payload["code"]) == ("error", "unavailable")
    assert desk.store.history("acme", "ann", "c") == []
