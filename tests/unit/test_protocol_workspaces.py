"""What a client may say on /workspaces, and the texts that an update is made of."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from mintflow_realtime.protocol.errors import InvalidPayload, TooLarge
from mintflow_realtime.protocol.workspaces import (
    MAX_DEPTH,
    MAX_OPERATIONS,
    Edit,
    JoinWorkspace,
    Operation,
    UpdateWorkspace,
    check_depth,
    presence_text,
    updated_pieces,
    user_pieces,
)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "payload",
    [
        {"workspaceId": "w"},
        {"workspaceId": "w", "state": {}, "patch": [{"op": "remove", "path": "/a"}]},
        {"workspaceId": "w", "patch": [{"op": "remove", "path": "/a"}], "partial": True},
        {"workspaceId": "w", "patch": []},
        {"workspaceId": "w", "patch": [{"op": "remove", "path": "/a"}] * (MAX_OPERATIONS + 1)},
        {"workspaceId": "w", "patch": [{"op": "add", "path": "/a"}]},
        {"workspaceId": "w", "patch": [{"op": "move", "path": "/a"}]},
        {"workspaceId": "w", "patch": [{"op": "add", "path": 5, "value": 1}]},
        {"workspaceId": "w", "state": {}, "baseVersion": True},
        {"workspaceId": "w", "state": {}, "baseVersion": 2**53 + 1},
        {"workspaceId": "", "state": {}},
        {"workspaceId": "w", "state": {}, "tenantId": "other"},
    ],
)
def test_an_update_is_a_state_or_a_patch(payload: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(payload, UpdateWorkspace)


def test_null_is_a_value_of_a_patch_and_absence_is_not() -> None:
    operation = msgspec.convert({"op": "add", "path": "/a", "value": None}, Operation)
    assert msgspec.to_builtins(operation) == {"op": "add", "path": "/a", "value": None}
    operation = msgspec.convert({"op": "move", "path": "/a", "from": ""}, Operation)
    assert msgspec.to_builtins(operation) == {"op": "move", "path": "/a", "from": ""}


def test_a_user_name_is_bounded() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"workspaceId": "w", "userName": "x" * 129}, JoinWorkspace)


def test_members_are_text_as_it_came() -> None:
    edit = Edit.of_state({"a/~": [], "big": 9007199254740993, "raw": Raw(b'[1.0, 1e2,\n"\\u00fc"]')}, replaces=True)
    assert edit.members == {'"a/~"': "[]", '"big"': "9007199254740993", '"raw"': '[1.0, 1e2,\n"\\u00fc"]'}
    assert edit.replaces and edit.patch == "" and edit.removed == ()


@pytest.mark.parametrize(
    "state",
    [
        {"a": object()},
        {1: 2},
        {"a": {(1, 2): 3}},
        {"a": nested(MAX_DEPTH)},
        {"a": Raw(json.dumps(nested(MAX_DEPTH)).encode())},
        {"a": Raw(b"1e999")},
        {"a": Raw(b'"\xff"')},
        {"a": nested(900)},
    ],
)
def test_what_could_not_be_read_again_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload) as caught:
        Edit.of_state(state, replaces=False)
    assert caught.value.details["path"] == "$.state"


def test_halves_of_characters_in_a_state_are_replaced() -> None:
    assert Edit.of_state({"a": "\ud800", "\udce9": 1}, replaces=False).members == {'"a"': '"�"', '"�"': "1"}


def test_the_deepest_state_has_32_levels() -> None:
    Edit.of_state({"a": nested(MAX_DEPTH - 1), "b": [[]] * 100, "c": "[{" * 100}, replaces=False)
    check_depth({"a": nested(MAX_DEPTH - 1)}, "$")
    with pytest.raises(InvalidPayload):
        check_depth({"a": nested(MAX_DEPTH)}, "$")


def test_a_presence_has_4_kb_at_most() -> None:
    assert presence_text({"x": "y" * 4088}) == '{"x":"' + "y" * 4088 + '"}'
    with pytest.raises(TooLarge):
        presence_text({"x": "y" * 4089})
    with pytest.raises(TooLarge):
        presence_text({"x": "ü" * 2045})
    with pytest.raises(InvalidPayload):
        presence_text({"x": nested(MAX_DEPTH)})


def test_events_are_json_around_their_gaps() -> None:
    pieces = updated_pieces("w1", 'a"b', content="state")
    name, payload = json.loads("".join(sum(zip(pieces, ("{}", "7", "t", ""), strict=True), ())))
    assert name == "workspace_updated"
    assert payload == {"workspace": "w1", "state": {}, "version": 7, "updatedAt": "t", "updatedBy": 'a"b'}
    assert json.loads("".join(user_pieces("user_joined", "w1", "{}"))) == [
        "user_joined",
        {"workspace": "w1", "user": {}},
    ]
    first, last = user_pieces("user_left", "w1", None)
    assert json.loads(f"{first}{{}}{last}") == ["user_left", {"workspace": "w1", "user": {}}]
