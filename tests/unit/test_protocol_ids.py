"""Ids: what is one, and what is refused by name of its field."""

import msgspec
import pytest

from protocol.errors import InvalidPayload
from protocol.ids import Id, check_id, is_id

GOOD = ["a", "0", "A" + "b" * 127, "a.b_c@d-e", "9f"]
BAD = ["", "-a", ".a", "_a", "@a", "a" * 129, "a b", "a:b", "a/b", "a\n", "\na", "é", "a\x00", "a{b}", "①"]


@pytest.mark.parametrize("text", GOOD)
def test_ids_are_letters_digits_and_four_marks(text: str) -> None:
    assert is_id(text) and check_id(text, "$.x") == text and msgspec.convert(text, Id) == text


@pytest.mark.parametrize("text", BAD)
def test_everything_else_is_refused_alike_by_the_pattern_and_by_the_messages(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, Id)
    with pytest.raises(InvalidPayload) as refused:
        check_id(text, "$.flowId")
    assert refused.value.details == {"path": "$.flowId"}


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], True])
def test_only_text_is_an_id(value: object) -> None:
    assert not is_id(value)
    with pytest.raises(InvalidPayload):
        check_id(value, "$")
