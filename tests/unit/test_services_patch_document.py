"""JSON Patch on a document: as the public library does it, with short errors, and what lists move is counted."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointerException

from mintflow_realtime.services.workspaces.patch_document import Document, TestFails, WrongOperation, equal, parts_of

PLACES = [
    "",
    "/a",
    "/a/0",
    "/a/1",
    "/a/-",
    "/b",
    "/b/a",
    "/b/~0",
    "/b/~1",
    "/b/a/0",
    "/c",
    "/a/00",
    "/a/x",
    "/c/0",
    "/b/",
]
VALUES: Any = st.sampled_from([1, 1.0, True, None, "x", [], [0], {"a": [1]}, {}, {"~": 1, "/": [2]}])


def apply(document: Any, operation: dict[str, Any]) -> Any:
    patched = Document(document)
    path, source = parts_of(operation["path"]), parts_of(operation.get("from", ""))
    match operation["op"]:
        case "add":
            patched.add(path, operation["value"])
        case "replace":
            patched.replace(path, operation["value"])
        case "remove":
            patched.remove(path)
        case "move":
            patched.move(source, path)
        case "test":
            patched.test(path, operation["value"], lambda: None)
        case "copy":
            patched.add(path, copy.deepcopy(patched.get(source)))
    return patched.root


@settings(max_examples=400)
@given(
    st.sampled_from(["add", "replace", "remove", "move", "test", "copy"]),
    st.sampled_from(PLACES),
    st.sampled_from(PLACES),
    VALUES,
    st.fixed_dictionaries({"a": VALUES, "b": VALUES}),
)
def test_each_operation_does_what_the_library_does(op: str, path: str, source: str, value: Any, state: Any) -> None:
    operation = {"op": op, "path": path, "from": source, "value": value}
    before, ours, theirs = json.dumps(state), None, None
    try:
        theirs = json.dumps(JsonPatch([copy.deepcopy(operation)]).apply(json.loads(before)))
    except JsonPatchTestFailed:
        theirs = "test fails"
    except (JsonPatchException, JsonPointerException, TypeError, KeyError):
        theirs = "wrong"
    try:
        ours = json.dumps(apply(json.loads(before), copy.deepcopy(operation)))
    except TestFails:
        ours = "test fails"
    except WrongOperation as error:
        ours = "wrong"
        assert len(str(error)) < 100
    if op == "remove" and path == "":
        assert ours == "wrong"
    else:
        assert ours == theirs


def test_what_lists_move_is_counted() -> None:
    document = Document({"l": [0] * 100_000})
    document.add(["l", "0"], 1)
    assert document.moved == 800_000
    document.add(["l", "-"], 1)
    assert document.moved == 800_000
    document.remove(["l", "1"])
    assert document.moved == 1_600_000 + 8
    document.move(["l", "0"], ["m"])
    assert document.moved == 2_400_016 and document.root["m"] == 1


@pytest.mark.parametrize("pointer", ["a", "/~", "/~2", "/a~"])
def test_what_is_no_pointer(pointer: str) -> None:
    with pytest.raises(WrongOperation):
        parts_of(pointer)


def test_long_values_are_compared_with_pauses() -> None:
    pauses = []
    one, other = [[1, {"a": 2.0}]] * 20_000, [[1.0, {"a": 2}]] * 20_000
    assert equal(one, other, lambda: pauses.append(1)) and len(pauses) > 50
    other[-1] = [True, {"a": 2}]
    assert not equal(one, other, lambda: None)
    for unlike in ([1, [True]], [{"a": 1}, {"b": 1}], [{"a": 1}, []], [[], {}], [[1], [1, 2]], [0, None], [0, False]):
        assert not equal(*unlike, lambda: None)
