"""JSON Patch (RFC 6902) on a state: the members that it changes, all of its operations or none."""

from collections.abc import Sequence
from typing import Any

import msgspec
from jsonpatch import JsonPatch, JsonPatchException, JsonPatchTestFailed
from jsonpointer import JsonPointer, JsonPointerException
from msgspec import Raw

from protocol.errors import Conflict, InvalidPayload, TooLarge
from protocol.wire_json import dumps, loads
from protocol.workspaces import Edit, Operation, json_text, member_text

_members = msgspec.json.Decoder(dict[str, Raw])
# What the library says of a value may hold the whole value.
_MAX_TEXT = 200
_WRONG = (
    JsonPatchException,
    JsonPointerException,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
)


def patch_state(operations: Sequence[Operation], state: str, max_bytes: int) -> Edit:
    """Return what `operations` write to `state`, JSON text of an object; untouched members stay as they are.

    Raises Conflict where a `test` fails, InvalidPayload with the operation's path where one can't be applied or the
    result is no state, TooLarge where `copy` would make more than `max_bytes`.
    """
    before = _members.decode(state)
    touched = _touched(operations)
    document: Any = {name: loads(text) for name, text in before.items() if touched is None or name in touched}
    room = max_bytes
    for number, operation in enumerate(operations):
        try:
            if operation.op == "copy":
                # Thirty copies of an object into itself would be a billion of it.
                room -= len(dumps(JsonPointer(str(operation.from_)).resolve(document)))
                if room < 0:
                    raise TooLarge(f"A patch copies at most {max_bytes} bytes", path=f"$.patch[{number}]")
            document = JsonPatch([msgspec.to_builtins(operation)]).apply(document, in_place=True)
        except JsonPatchTestFailed:
            raise Conflict("A test of the patch fails", path=f"$.patch[{number}]") from None
        except _WRONG as error:
            raise InvalidPayload(f"Can't be applied: {error}"[:_MAX_TEXT], f"$.patch[{number}]") from None
    if not isinstance(document, dict):
        raise InvalidPayload("A state is an object", "$.patch")
    after = {name: member_text(value, "$.patch") for name, value in document.items()}
    return Edit(
        members={
            json_text(name, "$.patch"): text
            for name, text in after.items()
            if touched is None or name not in before or bytes(before[name]) != text.encode()
        },
        removed=tuple(dumps(name) for name in touched or () if name in before and name not in after),
        replaces=touched is None,
        patch=json_text(operations, "$.patch"),
    )


def _touched(operations: Sequence[Operation]) -> set[str] | None:
    """Return the names of the members that operations read or write; None for the whole state."""
    names = set()
    for number, operation in enumerate(operations):
        for pointer in (operation.path, operation.from_):
            if not isinstance(pointer, str):
                continue
            try:
                parts = JsonPointer(pointer).parts
            except JsonPointerException as error:
                raise InvalidPayload(str(error)[:_MAX_TEXT], f"$.patch[{number}]") from None
            if not parts:
                return None
            names.add(parts[0])
    return names
