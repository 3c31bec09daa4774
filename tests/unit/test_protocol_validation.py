"""Errors of msgspec as errors of ours: which field they name, and how long a client can make them."""

from typing import Annotated, Any, Literal

import msgspec
import pytest

from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.validation import MAX_MEMBERS, MAX_TEXT, mistyped, refuse_bytes, refuse_many_members
from mintflow_realtime.routes.errors import Malformed


class Inner(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    node_id: str


class Outer(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    level: Literal["info", "warn"]
    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    inner: Inner | None = None
    several: list[Inner] = []


def failed(payload: Any, kind: type[Any] = Outer) -> msgspec.ValidationError:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(payload, kind)
    return caught.value


@pytest.mark.parametrize(
    ("payload", "path", "text"),
    [
        (1, "$", "Expected `object`, got `int`"),
        ({}, "$.level", "Object missing required field `level`"),
        ({"level": "info", "colour": 1}, "$.colour", "Object contains unknown field `colour`"),
        ({"level": "loud"}, "$.level", "Invalid enum value 'loud'"),
        ({"level": "info", "limit": 0}, "$.limit", "Expected `int` >= 1"),
        ({"level": "info", "limit": "1"}, "$.limit", "Expected `int`, got `str`"),
        ({"level": "info", "inner": {}}, "$.inner.nodeId", "Object missing required field `nodeId`"),
        ({"level": "info", "inner": {"node_id": "n"}}, "$.inner.node_id", "Object contains unknown field `node_id`"),
        ({"level": "info", "inner": {"nodeId": 1}}, "$.inner.nodeId", "Expected `str`, got `int`"),
        ({"level": "info", "several": {}}, "$.several", "Expected `array`, got `object`"),
    ],
)
def test_the_field_is_named_by_its_path_and_the_text_does_not_repeat_it(payload: Any, path: str, text: str) -> None:
    error = mistyped(failed(payload))
    assert type(error) is InvalidPayload
    assert (error.message, error.to_wire()["path"]) == (text, path)


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ([{"nodeId": "n"}, {}], "$[1].nodeId"),
        ([{"nodeId": "n", "x": 1}], "$[0].x"),
        ([{"nodeId": "n"}] * 12 + [1], "$[12]"),
    ],
)
def test_a_message_of_a_batch_is_named_by_its_place(payload: Any, path: str) -> None:
    assert mistyped(failed(payload, list[Inner])).to_wire()["path"] == path


def test_json_text_is_named_like_its_value() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"level":"info","inner":{"nodeId":"n","x":1}}', type=Outer)
    assert mistyped(caught.value).to_wire()["path"] == "$.inner.x"


def test_the_kind_is_the_callers() -> None:
    error = mistyped(failed({"level": "info", "x": 1}), Malformed)
    assert type(error) is Malformed and error.to_wire()["path"] == "$.x"


@pytest.mark.parametrize("name", ["x" * 100_000, "é" * 5000, "`" * 5000, " - at `$." * 1000, "\n" * 5000])
@pytest.mark.parametrize("where", ["name", "inner", "value"])
def test_a_client_cannot_make_the_error_long(name: str, where: str) -> None:
    payload = {
        "name": {"level": "info", name: 1},
        "inner": {"level": "info", "inner": {"nodeId": "n", name: 1}},
        "value": {"level": name},
    }[where]
    error = mistyped(failed(payload))
    assert 0 < len(error.message) <= MAX_TEXT and len(error.to_wire()["path"]) <= MAX_TEXT


def test_a_long_path_is_cut_where_it_ends_and_still_begins_as_it_should() -> None:
    error = mistyped(failed({"level": "info", "inner": {"nodeId": "n", "x" * 1000: 1}}))
    assert error.to_wire()["path"] == ("$.inner." + "x" * 1000)[:300]
    assert error.message == ("Object contains unknown field `" + "x" * 1000)[:300]


def test_names_that_span_lines_are_read_whole() -> None:
    error = mistyped(failed({"level": "info", "inner": {"nodeId": "n", "a\nb": 1}}))
    assert error.to_wire()["path"] == "$.inner.a\nb" and error.message == "Object contains unknown field `a\nb`"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        (b"", "$"),
        (bytearray(b"x"), "$"),
        ({"a": b""}, "$.a"),
        ({"a": [], "b": {}, "c": [0, [[], b"x"]]}, "$.c[1][1]"),
        ([{"a": b"x"}], "$[0].a"),
        ({"a": {"b": 1}, "c": {"d": {"e": b"x"}}}, "$.c.d.e"),
        ({"k" * 500: b"x"}, ("$." + "k" * 500)[:MAX_TEXT]),
    ],
)
def test_bytes_are_named_by_their_path(payload: Any, path: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        refuse_bytes(payload)
    assert caught.value.details["path"] == path


def test_without_bytes_nothing_is_refused_however_deep_it_is() -> None:
    deep: Any = "x"
    for _ in range(50_000):
        deep = [deep]
    for payload in ({}, [], None, "text", {"a": [1, 2.0, None, True, {"b": "c"}]}, deep):
        refuse_bytes(payload)


def test_objects_of_too_many_members_are_refused_before_they_are_read() -> None:
    refuse_many_members({"state": dict.fromkeys(range(MAX_MEMBERS))})
    with pytest.raises(TooLarge) as refused:
        refuse_many_members({"workspaceId": "w", "state": dict.fromkeys(range(MAX_MEMBERS + 1))})
    assert refused.value.to_wire()["path"] == "$.state"


def test_a_long_look_for_bytes_pauses() -> None:
    pauses: list[int] = []
    with pytest.raises(InvalidPayload):
        refuse_bytes({"a": [[] for _ in range(3000)] + [b"x"]}, lambda: pauses.append(1))
    assert len(pauses) > 3
