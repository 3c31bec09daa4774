"""JSON that is read in short steps says what the parser in C says, or is refused as there."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.abuse.payloads import payloads
from mintflow_realtime.protocol import wire_json
from mintflow_realtime.protocol.json_in_turns import JsonReader, let_go
from mintflow_realtime.protocol.wire_json import dumps_in_turns, loads, loads_in_turns

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
# CPU time of one step. The target is a third of it; a step of the parser in C alone took ten times as long.
MOST_MS = 12


def nothing() -> None:
    pass


def read(text: str) -> Any:
    return JsonReader(text, loads, nothing).read()


@given(VALUES, st.sampled_from([None, 1]), st.booleans())
def test_what_json_says_is_read(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        assert read(text) == json.loads(text) and repr(read(text)) == repr(json.loads(text))


@given(st.text(alphabet='[]{},:"\\u01d8.e-+ tfn\n', max_size=12))
def test_what_is_no_json_is_refused(text: str) -> None:
    try:
        expected = loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            read(text)
    else:
        assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "[", "[1", "[1,", "[1,]", "[,1]", "[1}", "{", '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', "{1:1}"]
    + ['{"a" 1}', "[1] 2", "01", "1.", ".5", "-", "1e", "+1", "NaN", "Infinity", "1e999", "nul", '"', '"\\x"', '"\n"']
    + ['["a\\u12"]', '["\\u00e', "[" * 1000 + "]" * 1000, "1" * 5000],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


def test_half_a_surrogate_pair_becomes_the_replacement_character_and_a_whole_one_stays() -> None:
    pair, long = "\\ud83d\\ude00", "\\n" * 3000
    for text in (f'"{long}\\ud83d{long}"', f'"\\ude00{pair}\\ud83d\\ud83d"', f'["{pair * 5000}", "\\ud800"]'):
        assert read(text) == loads(text)
        assert json.dumps(read(text)).count("\\ufffd") == text.count("\\ud800") or "\\ufffd" in json.dumps(read(text))
    assert read(f'{{"{pair}\\ud800":1}}') == {"\U0001f600�": 1}


@pytest.mark.parametrize("name", sorted(payloads()))
def test_no_step_of_a_megabyte_is_long(name: str) -> None:
    text = payloads()[name]
    best = float("inf")
    for _ in range(3):
        best = min(best, longest_step(text))
    assert best * 1000 < MOST_MS


def longest_step(text: str) -> float:
    longest, last = 0.0, time.thread_time()

    def pause() -> None:
        nonlocal longest, last
        now = time.thread_time()
        longest, last = max(longest, now - last), now

    made: list[Any] = []
    value: Any = None
    with wire_json_calm():
        try:
            value = loads_in_turns(text, pause, made)
        except ValueError:
            pass
        pause()
        del value
        let_go(made, pause)
        pause()
    assert made == []
    return longest


def wire_json_calm() -> Any:
    from mintflow_realtime.protocol.turns import turns

    return turns.calm()


def test_texts_that_are_dear_to_mend_are_mended_in_linear_time() -> None:
    for part in ("\\n", "\\ud800", "\\ud83d\\ude00", "a\\n", "\\u0041", "é"):
        costs = []
        for size in (20_000, 80_000):
            text = '"' + part * (size // len(part)) + '\\ud800"'
            costs.append(min(timed(text) for _ in range(3)))
        assert costs[1] < 12 * costs[0] + 0.001


def timed(text: str) -> float:
    began = time.thread_time()
    assert loads(text).endswith("�")
    return time.thread_time() - began


def test_lists_are_written_as_ever() -> None:
    plain = list(range(20_000))
    for value in ([], [1], plain, [plain], [[1], plain], {"a": plain}, "x", [["x"]], [float(n) for n in plain]):
        assert dumps_in_turns(value, nothing) == wire_json.dumps(value)
    with pytest.raises(TypeError):
        dumps_in_turns([*plain, object()], nothing)


def test_dear_numbers_are_read_as_ever() -> None:
    numbers = [1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 0.1, -0.0, 1e22, 123456789012345680000.0]
    text = json.dumps(numbers * 200)
    assert loads(text) == msgspec.json.decode(text) == numbers * 200
    with pytest.raises(ValueError):
        loads(json.dumps([1] * 3000)[:-1] + ",1e999]")
