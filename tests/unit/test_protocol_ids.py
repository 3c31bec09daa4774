"""Ids and tenants: what is one, what is refused by name of its field, and how an id stands in keys and rooms."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import (
    ID_PATTERN,
    MAX_ENCODED,
    TENANT_PATTERN,
    Id,
    check_id,
    check_tenant,
    encode_id,
    is_id,
    is_tenant,
)
from mintflow_realtime.protocol.validation import mistyped

TENANTS = ["a", "0", "A" + "b" * 127, "a.b_c@d-e", "9f"]
IDS = [
    *TENANTS,
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "https://accounts.example.com/107:8",
    "scheduled__2026-01-01T00:00:00+00:00",
    "load[eu]",
    "Übergröße=1/2",
    "-",
    " a b ",
    "{acme}",
    "~a",
    "=" + "0" * 64,
    "😀" * 255,
    "x" * 255,
]
BAD = ["", "a" * 256, "a\n", "\na", "a\x00", "a\x7f", "a\x85b", "\t", "caf\udce9", "\ud83d", "caf�"]


class Named(msgspec.Struct):
    flow: Id


@pytest.mark.parametrize("text", IDS)
def test_ids_are_any_text_without_control_characters(text: str) -> None:
    assert is_id(text) and check_id(text, "$.x") == text and msgspec.convert(text, Id) == text
    assert msgspec.json.decode(msgspec.json.encode(text), type=Id) == text


@pytest.mark.parametrize("text", BAD)
def test_everything_else_is_refused_alike_by_the_pattern_and_by_the_messages(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(msgspec.ValidationError) as mismatch:
        msgspec.convert({"flow": text}, Named)
    told = mistyped(mismatch.value)
    with pytest.raises(InvalidPayload) as refused:
        check_id(text, "$.flow")
    assert refused.value.details == told.details == {"path": "$.flow"}
    assert refused.value.message == told.message and "255 characters" in told.message


@pytest.mark.parametrize("text", TENANTS)
def test_tenants_are_letters_digits_and_four_marks(text: str) -> None:
    assert is_tenant(text) and check_tenant(text, "$.x") == text


@pytest.mark.parametrize("text", [*BAD, *IDS[len(TENANTS) :]])
def test_another_tenant_is_refused(text: str) -> None:
    assert not is_tenant(text)
    with pytest.raises(InvalidPayload) as refused:
        check_tenant(text, "$.tenant")
    assert refused.value.details == {"path": "$.tenant"}


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], True])
def test_only_text_is_an_id_or_a_tenant(value: object) -> None:
    assert not is_id(value) and not is_tenant(value)
    with pytest.raises(InvalidPayload):
        check_id(value, "$")
    with pytest.raises(InvalidPayload):
        check_tenant(value, "$")


@given(st.from_regex(TENANT_PATTERN))
def test_what_was_an_id_before_stands_for_itself_in_keys(text: str) -> None:
    assert encode_id(text) == text


ANY = st.sampled_from(IDS) | st.from_regex(ID_PATTERN) | st.text(alphabet="a:/{}~%=|é", min_size=1, max_size=255)


@given(ANY, ANY)
def test_an_encoded_id_is_short_parts_nothing_and_is_nobody_elses(one: str, other: str) -> None:
    encoded = encode_id(one)
    assert re.fullmatch(rf"[A-Za-z0-9._@~%=-]{{1,{MAX_ENCODED}}}", encoded)
    assert (encoded == encode_id(other)) is (one == other)
    # What one encodes to is no other id's own text either.
    assert encode_id(encoded) != encoded or encoded == one
