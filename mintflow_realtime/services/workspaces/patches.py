"""JSON Patch (RFC 6902) on a state: the members that it changes, all of its operations or none.

It may take long, so it takes turns. One step is short: an operation of a list, or the JSON text of one value.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, TooLarge
from mintflow_realtime.protocol.turns import Pause, turns
from mintflow_realtime.protocol.wire_json import AT_ONCE, FEW, dumps, let_go, loads, loads_in_turns
from mintflow_realtime.protocol.workspaces import Edit, Operation, json_text, member_text
from mintflow_realtime.services.workspaces.patch_document import Document, TestFails, WrongOperation, parts_of

# What the lists of a state may move for one patch: a tenth of a second of a processor's time.
MAX_MOVED = 1_000_000_000

_members = msgspec.json.Decoder(dict[str, Raw])


def patch_state(operations: Sequence[Operation], state: str, max_bytes: int) -> Edit:
    """Return what `operations` write to `state`, JSON text of an object; untouched members stay as they are.

    Raises Conflict where a `test` fails, InvalidPayload with the operation's path where one can't be applied or the
    result is no state, TooLarge where `copy` would make more than `max_bytes`, or lists would move a gigabyte.
    """
    made: list[Any] = []
    with turns.calm(), turns.work() as pause:
        try:
            return _Patching(operations, max_bytes, made, pause).edit(state)
        finally:
            let_go(made, pause)


class _Patching:
    def __init__(self, operations: Sequence[Operation], max_bytes: int, made: list[Any], pause: Pause) -> None:
        self._operations = operations
        self._room = max_bytes
        self._max_bytes = max_bytes
        self._made, self._pause = made, pause

    def edit(self, state: str) -> Edit:
        places = self._places()
        names = [parts[0] if parts else None for pair in places for parts in pair if parts is not None]
        touched = None if None in names else {name for name in names if name is not None}
        before = self._before(state, touched)
        self._pause()
        document = Document({name: self._read(text) for name, text in before.items()})
        for number, operation in enumerate(self._operations):
            path, source = places[number]
            try:
                self._apply(document, operation, path or [], source or [])
            except TestFails:
                raise Conflict("A test of the patch fails", path=f"$.patch[{number}]") from None
            except (WrongOperation, RecursionError) as error:
                raise InvalidPayload(f"Can't be applied: {error}", f"$.patch[{number}]") from None
            if self._room < 0:
                raise TooLarge(f"A patch copies at most {self._max_bytes} bytes", path=f"$.patch[{number}]")
            if document.moved > MAX_MOVED:
                sentence = "A patch that moves so much of long lists is too large: replace the list"
                raise TooLarge(sentence, path=f"$.patch[{number}]")
            self._pause()
        if not isinstance(document.root, dict):
            raise InvalidPayload("A state is an object", "$.patch")
        after = {}
        for name, value in document.root.items():
            after[name] = member_text(value, "$.patch", self._pause)
            self._pause()
        # The values of a patch that was read in turns are freed so, too.
        document.root = None
        return Edit(
            members={
                json_text(name, "$.patch"): text
                for name, text in after.items()
                if touched is None or before.get(name) != text
            },
            removed=tuple(dumps(name) for name in touched or () if name in before and name not in after),
            replaces=touched is None,
            patch=json_text(self._operations, "$.patch"),
        )

    def _apply(self, document: Document, operation: Operation, path: list[str], source: list[str]) -> None:
        match operation.op:
            case "add":
                document.add(path, self._own(operation.value))
            case "replace":
                document.replace(path, self._own(operation.value))
            case "remove":
                document.remove(path)
            case "move":
                document.move(source, path)
            case "test":
                document.test(path, operation.value, self._pause)
            case "copy":
                # Thirty copies of an object into itself would be a billion of it.
                text = dumps(document.get(source))
                self._room -= len(text)
                if self._room >= 0:
                    document.add(path, self._read(text))

    def _own(self, value: Any) -> Any:
        """Return a value that may be changed: the patch's own is sent to others, and may be applied once more."""
        return self._read(dumps(value)) if isinstance(value, (dict, list)) and value else value

    def _read(self, text: str) -> Any:
        return loads(text) if len(text) <= AT_ONCE else loads_in_turns(text, self._pause, self._made)

    def _before(self, state: str, touched: set[str] | None) -> dict[str, str]:
        """Return the members that are touched, as JSON text."""
        if state.count(":") <= FEW:
            members = _members.decode(state)
            return {name: bytes(text).decode() for name, text in members.items() if touched is None or name in touched}
        found = self._read(state)
        names = found if touched is None else [name for name in found if name in touched]
        before = {}
        for name in names:
            before[name] = dumps(found[name])
            self._pause()
        return before

    def _places(self) -> list[tuple[list[str] | None, list[str] | None]]:
        """Return where each operation goes, and where from."""
        places: list[tuple[list[str] | None, list[str] | None]] = []
        for number, operation in enumerate(self._operations):
            source = operation.from_
            try:
                places.append((parts_of(operation.path), parts_of(source) if isinstance(source, str) else None))
            except WrongOperation as error:
                raise InvalidPayload(str(error), f"$.patch[{number}]") from None
        return places
