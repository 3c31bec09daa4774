"""JSON on the wire: what passes unchanged, and that whatever can't be read is one kind of error."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.wire_json import dumps, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_values_come_back_and_the_text_is_json_for_everybody(value: Any) -> None:
    text = dumps(value, separators=(",", ":"))
    assert loads(text) == value == loads(text.encode()) == json.loads(text)
    assert "\n" not in text


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "nul", "NaN", b"\xff", '{"a":1}x', "[" * 100_000, "[" * 1200 + "]" * 1200]
)
def test_what_cannot_be_read_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads(text)


HIGH, LOW, PAIR = r"\ud83d", r"\uDE00", r"\ud83d\uDE00"
LONE = "\ufffd"


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (HIGH, LONE),
        (LOW, LONE),
        (LOW + HIGH, LONE * 2),
        (HIGH + HIGH, LONE * 2),
        (HIGH + PAIR, LONE + "😀"),
        (PAIR + LOW, "😀" + LONE),
        (PAIR + HIGH + PAIR, "😀" + LONE + "😀"),
        ("a" + HIGH + "é😀", "a" + LONE + "é😀"),
        (HIGH + r"\u0041", LONE + "A"),
        (HIGH + r"\n\"", LONE + '\n"'),
        (r"\\" + HIGH, "\\" + LONE),
        (r"\\\\ud83d" + LOW, r"\\ud83d" + LONE),
        (r"\\ud83d" + LOW, r"\ud83d" + LONE),
        (r"\ud800\udbff\udc00\udfff", LONE + "\U0010fc00" + LONE),
        (r"\uD7FF\uE000" + HIGH, "\ud7ff\ue000" + LONE),
    ],
)
def test_half_a_surrogate_pair_is_replaced_and_nothing_else_is_touched(escaped: str, text: str) -> None:
    """JavaScript sends one for an emoji that was cut in two: `"😀".slice(0, 1)`."""
    for written, value in (
        (f'"{escaped}"', text),
        (f'["e",{{"a{escaped}":[1,"{escaped}"]}}]', ["e", {f"a{text}": [1, text]}]),
    ):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(written)
        assert loads(written) == value == loads(written.encode())
        assert loads(dumps(loads(written))) == value


@pytest.mark.parametrize("escaped", [PAIR, r"\\ud83d", r"\\uDE00", r"\ud7ff", r"\ue000", r"\\\\ud83d"])
def test_text_without_half_a_pair_is_read_as_it_is(escaped: str) -> None:
    assert loads(f'"{escaped}"') == json.loads(f'"{escaped}"')


@given(st.lists(st.sampled_from([HIGH, LOW, r"\\", r"\"", r"\n", r"\u00e9", "u", "d83d", "é", "😀"]), max_size=12))
def test_any_mixture_is_read_as_python_reads_it_but_for_the_halves(parts: list[str]) -> None:
    written = f'"{"".join(parts)}"'
    expected = "".join(LONE if "\ud800" <= letter <= "\udfff" else letter for letter in json.loads(written))
    assert loads(written) == expected


@pytest.mark.parametrize(
    "text",
    [
        f'"{HIGH}',
        f'{{"a":"{HIGH}"',
        f'"{HIGH}"x',
        HIGH,
        r'"\ud83"',
        r'"\ud83g"',
        f'"{HIGH}\\x"',
        f'["{HIGH}",' + "[" * 1200 + "]" * 1200 + "]",
        b'"\\ud83d\xff"',
        b'"\xed\xa0\xbd"',
        '"\ud83d"',
    ],
)
def test_what_cannot_be_read_with_or_without_half_a_pair_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("value", [object(), {1, object()}, {None: 1}, 1j])
def test_what_json_cannot_say_is_a_type_error(value: Any) -> None:
    with pytest.raises((TypeError, OverflowError)):
        dumps(value)


def test_messages_are_written_by_their_wire_names() -> None:
    class Told(msgspec.Struct, rename="camel"):
        flow_id: str
        logs: list[msgspec.Raw]

    assert (
        dumps([Told("f", [msgspec.Raw(b'{"n":9007199254740993}')])])
        == '[{"flowId":"f","logs":[{"n":9007199254740993}]}]'
    )
