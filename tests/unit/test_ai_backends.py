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

from mintflow_realtime.ai_backends.base import Message, Piece, Question
from mintflow_realtime.ai_backends.choice import choose
from mintflow_realtime.ai_backends.echo import EchoBackend
from mintflow_realtime.ai_backends.event_stream import read_events
from mintflow_realtime.ai_backends.openai_backend import OpenAIBackend, _retry_after
from mintflow_realtime.ai_backends.refused_options import MAX_MODELS, RefusedOptions
from mintflow_realtime.protocol.errors import RealtimeError
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


@pytest.fixture
def fresh(upstream: ChatCompletions) -> Iterator[OpenAIBackend]:
    """A backend that remembers nothing of other tests."""
    made = OpenAIBackend(api_key="sk-ours", base_url=upstream.url, piece_seconds=0.5, total_seconds=1.0)
    yield made
    made.close()


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
    names = ("ai_backends.choice", "services.ai.service", "namespaces.ai")
    code = "".join(f"import mintflow_realtime.{name}\n" for name in names)
    code += "import sys; sys.exit('openai' in sys.modules)"
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


@pytest.mark.parametrize("url", ["localhost:11434/v1", "//localhost/v1", "ftp://localhost/v1", "v1", "http://[::1"])
def test_a_base_url_that_is_no_address_is_told(url: str) -> None:
    made = OpenAIBackend(api_key=None, base_url=url)
    for ask in (made.complete, lambda question: streamed(made, question)):
        with pytest.raises(RealtimeError) as raised:
            ask(asked("normal"))
        assert raised.value.code == "ai_unavailable" and "OPENAI_BASE_URL" in raised.value.message
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


def test_any_byte_is_a_sign_of_life(backend: OpenAIBackend) -> None:
    with backend.stream(asked("comments")) as pieces:
        heard = list(pieces)
    assert "".join(piece.text for piece in heard) == TEXT
    first = next(place for place, piece in enumerate(heard) if piece.text)
    assert first >= 9 and set(heard[:first]) == {Piece()}


@pytest.mark.parametrize("way", ["stream", "whole"])
@pytest.mark.parametrize(
    ("reason", "named"),
    [("stop", "stop"), ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
     ("content_filter", "content_filter"), ("SAFETY", "content_filter"), ("eos", "eos"), ("tool_calls", "tool_calls")],
)  # fmt: skip
def test_the_finish_reason_is_in_openais_words(backend: OpenAIBackend, way: str, reason: str, named: str) -> None:
    for model, text in ((f"end:{reason}", TEXT), (f"empty:{reason}", "")):
        if way == "whole":
            answer = backend.complete(asked(model))
            assert (answer.text, answer.finish_reason) == (text, named)
        else:
            with backend.stream(asked(model)) as pieces:
                heard = list(pieces)
            assert "".join(piece.text for piece in heard) == text
            assert [piece.finish_reason for piece in heard if piece.finish_reason] == [named]


@pytest.mark.parametrize("way", ["stream", "whole"])
@pytest.mark.parametrize(
    "names", ["stream_options", "temperature", "max_tokens", "max_tokens,max_completion_tokens",
              "temperature,max_tokens,stream_options,max_completion_tokens"],
)  # fmt: skip
def test_what_a_model_refuses_is_left_out_and_remembered(
    fresh: OpenAIBackend, upstream: ChatCompletions, way: str, names: str
) -> None:
    model, prompt = f"without:{names}", f"refuses {names} {way}"
    refused = [name for name in names.split(",") if way == "stream" or name != "stream_options"]

    def ask() -> None:
        if way == "stream":
            assert "".join(streamed(fresh, asked(model, prompt))[0]) == TEXT
        else:
            assert fresh.complete(asked(model, prompt)).text == TEXT

    ask()
    assert len(upstream.asked(prompt)) == 1 + len(refused)
    ask()
    last = upstream.asked(prompt)[-1].body
    assert len(upstream.asked(prompt)) == 2 + len(refused), "the second time it is known"
    assert not set(refused) & set(last) and last["messages"][-1]["content"] == prompt
    if "max_tokens" in refused and "max_completion_tokens" not in refused:
        assert last["max_completion_tokens"] == 100
    if "temperature" not in refused:
        assert last["temperature"] == 0.5
    # Of another model nothing is known.
    fresh.complete(asked("normal", f"other {prompt}"))
    assert {"temperature", "max_tokens"} <= set(upstream.asked(f"other {prompt}")[0].body)


def test_a_value_out_of_range_is_not_remembered(fresh: OpenAIBackend, upstream: ChatCompletions) -> None:
    for tries in (2, 4):
        assert fresh.complete(asked("value:temperature", "a value")).text == TEXT
        assert len(upstream.asked("a value")) == tries


@pytest.mark.parametrize(("model", "reason"), [("unstreamed", "stop"), ("reasonless", None)])
def test_servers_that_stream_in_their_own_way_are_read(backend: OpenAIBackend, model: str, reason: str | None) -> None:
    with backend.stream(asked(model)) as pieces:
        heard = list(pieces)
    assert "".join(piece.text for piece in heard) == TEXT
    assert [piece.finish_reason for piece in heard if piece.finish_reason] == ([reason] if reason else [])
    assert [piece.usage.total_tokens for piece in heard if piece.usage] == [16]


def test_what_is_remembered_of_models_is_bounded() -> None:
    refused = RefusedOptions()
    for number in range(3 * MAX_MODELS):
        refused.remember(f"m{number}", {"temperature": ""})
        refused.of("m0")
    assert len(refused._by_model) == MAX_MODELS and refused.of("m0") and not refused.of("m9")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1", "socksio"),
        ("HTTP_PROXY", "ftp://user:hidden@127.0.0.1:1", "HTTP_PROXY"),
        ("HTTPS_PROXY", "http://user:hidden@[::1", "HTTPS_PROXY"),
        ("SSL_CERT_FILE", "/none/there", "SSL_CERT_FILE"),
    ],
)
def test_an_environment_that_keeps_the_client_from_being_made_is_told_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    made = choose("openai", base_url="https://ai.example/v1")
    assert made is not None
    for ask in (made.complete, lambda question: streamed(made, question)):
        with pytest.raises(RealtimeError) as raised:
            ask(asked("normal"))
        assert raised.value.code == "ai_unavailable" and told in raised.value.message
        assert "hidden" not in raised.value.message + caplog.text
    made.close()


def test_without_the_sdk_requests_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mintflow_realtime.ai_backends.openai_backend", None)
    made = choose("openai", api_key="k", default_model="m")
    assert made is not None and made.default_model == "m"
    for ask in (made.complete, made.stream):
        with pytest.raises(RealtimeError) as raised:
            ask(asked("m"))
        assert raised.value.code == "ai_unavailable" and "pip install" in raised.value.message
    made.close()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_read_however_their_bytes_are_cut(end: bytes) -> None:
    lines = [
        b": comment",
        b"data: one",
        b"",
        b"event: x",
        b"data:two",
        b"data:  three",
        b"id: 7",
        b"",
        b"",
        b"data: four",
    ]
    raw = end.join([*lines, b"", b""])
    for size in range(1, len(raw) + 1):
        found = list(read_events(raw[place : place + size] for place in range(0, len(raw), size)))
        assert [event for event in found if event is not None] == [b"one", b"two\n three", b"four"]
        assert found.count(None) == -(-len(raw) // size)


def test_reading_events_takes_time_linear_in_their_bytes() -> None:
    def spent(length: int) -> float:
        began = time.process_time()
        list(read_events(b"x" for _ in range(length)))
        return time.process_time() - began

    spent(10_000)
    assert min(spent(400_000) for _ in range(3)) < 3 * min(spent(200_000) for _ in range(3))
