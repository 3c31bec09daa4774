"""The backends: echo, and the official SDK against a server that speaks the protocol well or badly."""

import email.utils
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from ai_backends.base import Message, Question
from ai_backends.choice import choose
from ai_backends.echo import EchoBackend
from ai_backends.openai_backend import OpenAIBackend, _retry_after
from protocol.errors import RealtimeError
from tests.chat_completions import TEXT, WORDS, ChatCompletions
from tests.servers import ROOT


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatCompletions]:
    server = ChatCompletions()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def backend(upstream: ChatCompletions) -> Iterator[OpenAIBackend]:
    made = OpenAIBackend(
        api_key="sk-ours", base_url=upstream.url, system_prompt="Be brief.", piece_seconds=0.5, total_seconds=1.0
    )
    yield made
    made.close()


def asked(model: str, prompt: str = "hello") -> Question:
    return Question(model, (Message("user", prompt),), 0.5, 100)


def streamed(backend: Any, question: Question) -> tuple[list[str], Any]:
    texts, usage = [], None
    with backend.stream(question) as pieces:
        for piece in pieces:
            usage = piece.usage or usage
            if piece.text:
                texts.append(piece.text)
    return texts, usage


def test_echo_gives_the_prompt_back() -> None:
    backend = EchoBackend(0)
    for text in (TEXT, "word", "  two\n\n words  ", "x" * 1000, " " * 1000):
        pieces, usage = streamed(backend, asked("echo", text))
        assert "".join(pieces) == text and usage.completion_tokens == len(pieces)
        assert backend.complete(asked("echo", text)).text == text
    assert len(streamed(backend, asked("echo", "one two three"))[0]) == 3


def test_nothing_is_chosen_without_its_settings() -> None:
    assert choose("") is None and choose("openai") is None
    assert isinstance(choose("echo"), EchoBackend)
    made = choose("openai", base_url="http://127.0.0.1:1/v1")
    assert isinstance(made, OpenAIBackend)
    made.close()


def test_the_sdk_is_imported_by_its_backend_alone() -> None:
    code = "import sys, ai_backends.choice, services.ai, namespaces.ai; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


@pytest.mark.parametrize("model", ["normal", "odd"])
def test_a_streams_pieces_are_exactly_the_upstreams(backend: OpenAIBackend, model: str) -> None:
    texts, usage = streamed(backend, asked(model))
    assert texts == WORDS
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 9, 16)


def test_a_character_in_two_halves_comes_whole(backend: OpenAIBackend) -> None:
    assert streamed(backend, asked("halves"))[0] == ["a", "🎉b", "\ufffdc"]


def test_what_is_asked(backend: OpenAIBackend, upstream: ChatCompletions) -> None:
    backend.complete(asked("normal", "what is asked"))
    streamed(backend, asked("normal", "what is asked"))
    whole, stream = upstream.asked("what is asked")
    assert whole.body == {
        "model": "normal",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "what is asked"}],
        "temperature": 0.5,
        "max_tokens": 100,
    }
    assert stream.body == {**whole.body, "stream": True, "stream_options": {"include_usage": True}}
    assert stream.headers["authorization"] == "Bearer sk-ours"


FAULTS = [
    ("cut", "unavailable", True),
    ("malformed", "unavailable", True),
    ("silent", "unavailable", True),
    ("busier", "rate_limited", True),
    ("much-busier", "rate_limited", True),
    ("400", "invalid_payload", False),
    ("401", "ai_unavailable", False),
    ("403", "ai_unavailable", False),
    ("404", "not_found", False),
    ("413", "too_large", False),
    ("429", "rate_limited", True),
    ("500", "unavailable", True),
    ("503", "unavailable", True),
]
STREAM_FAULTS = [
    ("unfinished", "unavailable", True),
    ("binary", "unavailable", True),
    ("failing", "unavailable", True),
    ("stall", "unavailable", True),
]


@pytest.mark.parametrize(
    ("way", "model", "code", "retryable"),
    [(way, *fault) for way in ("stream", "whole") for fault in FAULTS]
    + [("stream", *fault) for fault in STREAM_FAULTS]
    + [("whole", "html", "unavailable", True)],
)
def test_every_fault_has_its_error_and_tells_no_secret(
    backend: OpenAIBackend, caplog: pytest.LogCaptureFixture, way: str, model: str, code: str, retryable: bool
) -> None:
    question, began = asked(model, f"a private prompt {model}"), time.monotonic()
    with caplog.at_level(logging.DEBUG, "mintflow"), pytest.raises(RealtimeError) as raised:
        streamed(backend, question) if way == "stream" else backend.complete(question)
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert time.monotonic() - began < 3
    for text in (
        str(raised.value),
        *(record.getMessage() for record in caplog.records if record.name[:8] == "mintflow"),
    ):
        assert "sk-upstream" not in text and "private" not in text


def test_a_connection_that_fails_is_unavailable() -> None:
    made = OpenAIBackend(api_key=None, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(RealtimeError) as raised:
        made.complete(asked("normal"))
    assert raised.value.code == "unavailable"
    made.close()


def test_retry_after_is_respected_once(backend: OpenAIBackend, upstream: ChatCompletions) -> None:
    began = time.monotonic()
    assert streamed(backend, asked("busy", "try again"))[0] == WORDS
    assert time.monotonic() - began >= 1 and len(upstream.asked("try again")) == 2
    for model, prompt, tries in (("busier", "twice", 2), ("much-busier", "too long", 1), ("500", "no retry", 1)):
        with pytest.raises(RealtimeError):
            streamed(backend, asked(model, prompt))
        assert len(upstream.asked(prompt)) == tries


def test_the_stock_sdk_tries_a_failure_three_times(upstream: ChatCompletions) -> None:
    with openai.OpenAI(api_key="k", base_url=upstream.url) as stock, pytest.raises(openai.InternalServerError):
        stock.chat.completions.create(model="500", messages=[{"role": "user", "content": "stock"}])
    assert len(upstream.asked("stock")) == 3


def test_the_stock_sdk_takes_a_cut_stream_for_a_whole_one(upstream: ChatCompletions) -> None:
    with openai.OpenAI(api_key="k", base_url=upstream.url) as stock:
        messages: Any = [{"role": "user", "content": "stock"}]
        with stock.chat.completions.create(model="unfinished", messages=messages, stream=True) as stream:
            assert 0 < len(list(stream)) < len(WORDS)


def test_leaving_a_stream_closes_its_connection(backend: OpenAIBackend, upstream: ChatCompletions) -> None:
    with backend.stream(asked("endless", "leave")) as pieces:
        next(pieces)
    seen = upstream.wait_asked("leave")
    deadline = time.monotonic() + 1
    while seen.closed is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_retry_after_in_each_form() -> None:
    assert _retry_after({"retry-after": "1.5"}) == 1.5 and _retry_after({"retry-after": "-3"}) == 0
    date = email.utils.formatdate(time.time() + 10, usegmt=True)
    wait = _retry_after({"retry-after": date})
    assert wait is not None and 8 <= wait <= 10
    assert _retry_after({}) is None and _retry_after({"retry-after": "soon"}) is None
