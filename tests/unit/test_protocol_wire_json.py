"""JSON on the wire: what passes unchanged, and that whatever can't be read is one kind of error."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.wire_json import dumps, loads

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
