"""The operations of JSON Patch (RFC 6902) and JSON Pointer (RFC 6901) on what JSON text was read into.

No message here repeats a value: what a client sent may be a megabyte. Every step is short but for a list's: whoever
calls counts `moved`.
"""

import re
from collections.abc import Iterator
from typing import Any

from mintflow_realtime.protocol.turns import Pause

_INDEX = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII).fullmatch
_ESCAPE = re.compile(r"~[01]?")
_ESCAPED = {"~0": "~", "~1": "/"}
POINTER_BYTES = 8
STEP = 1024
"""What an element of a list takes in its list; inserting one moves all that are behind it by as much."""


class WrongOperation(ValueError):
    """An operation that can't be applied to this document."""


class TestFails(Exception):
    """What a `test` compares is not equal."""

    __test__ = False


def parts_of(pointer: str) -> list[str]:
    """Return the reference tokens of a pointer; none for the whole document. Raises WrongOperation."""
    if not pointer:
        return []
    if pointer[0] != "/":
        raise WrongOperation("A pointer begins with /")
    return [_unescaped(part) for part in pointer[1:].split("/")]


def _unescaped(part: str) -> str:
    def meant(found: re.Match[str]) -> str:
        if found[0] == "~":
            raise WrongOperation("A ~ in a pointer is written ~0")
        return _ESCAPED[found[0]]

    return _ESCAPE.sub(meant, part) if "~" in part else part


class Document:
    """A document under operations; `root` is what it is by now, `moved` the bytes that lists had to move for it."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.moved = 0

    def get(self, parts: list[str]) -> Any:
        """Return the value at a place. Raises WrongOperation."""
        value = self.root
        for part in parts:
            value = _member(value, part)
        return value

    def add(self, parts: list[str], value: Any) -> None:
        """Put a value at a place, before what is there in a list. Raises WrongOperation."""
        if not parts:
            self.root = value
            return
        parent, last = self.get(parts[:-1]), parts[-1]
        if isinstance(parent, dict):
            parent[last] = value
        elif isinstance(parent, list):
            at = len(parent) if last == "-" else _index(last)
            if at > len(parent):
                raise WrongOperation("There is no such place in the list")
            self.moved += (len(parent) - at) * POINTER_BYTES
            parent.insert(at, value)
        else:
            raise WrongOperation("Only objects and lists have members")

    def replace(self, parts: list[str], value: Any) -> None:
        """Put a value in the place of another. Raises WrongOperation."""
        if not parts:
            self.root = value
            return
        parent, last = self.get(parts[:-1]), parts[-1]
        _member(parent, last)
        parent[_index(last) if isinstance(parent, list) else last] = value

    def remove(self, parts: list[str]) -> Any:
        """Take a value away and return it. Raises WrongOperation."""
        if not parts:
            raise WrongOperation("The whole state can't be removed")
        parent, last = self.get(parts[:-1]), parts[-1]
        value = _member(parent, last)
        if isinstance(parent, list):
            at = _index(last)
            self.moved += (len(parent) - at) * POINTER_BYTES
            del parent[at]
        else:
            del parent[last]
        return value

    def move(self, source: list[str], parts: list[str]) -> None:
        """Take a value from a place and put it at another. Raises WrongOperation."""
        self.get(source)
        if source == parts:
            return
        if parts[: len(source)] == source:
            raise WrongOperation("A value can't be moved into itself")
        self.add(parts, self.remove(source))

    def test(self, parts: list[str], value: Any, pause: Pause) -> None:
        """Raise TestFails unless a value is at a place."""
        try:
            found = self.get(parts)
        except WrongOperation as error:
            raise TestFails(str(error)) from None
        if not equal(found, value, pause):
            raise TestFails("Not equal")


def equal(one: Any, other: Any, pause: Pause) -> bool:
    """Tell whether two values are the same JSON: a number equals another by its value, and no truth value."""
    waiting: list[Iterator[tuple[Any, Any]]] = [iter([(one, other)])]
    steps = 0
    while waiting:
        pair = next(waiting[-1], None)
        if pair is None:
            waiting.pop()
            continue
        one, other = pair
        steps += 1
        if steps % STEP == 0:
            pause()
        if isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif isinstance(one, dict):
            if not isinstance(other, dict) or len(one) != len(other) or one.keys() != other.keys():
                return False
            waiting.append(_pairs(one, other))
        elif isinstance(one, list):
            if not isinstance(other, list) or len(one) != len(other):
                return False
            waiting.append(zip(one, other, strict=True))
        elif one != other:
            return False
    return True


def _pairs(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    return ((value, other[name]) for name, value in one.items())


def _member(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        if part not in value:
            raise WrongOperation("There is no such member")
        return value[part]
    if isinstance(value, list):
        at = _index(part)
        if at >= len(value):
            raise WrongOperation("There is no such place in the list")
        return value[at]
    raise WrongOperation("Only objects and lists have members")


def _index(part: str) -> int:
    if _INDEX(part) is None:
        raise WrongOperation("A place in a list is a number")
    return int(part)
