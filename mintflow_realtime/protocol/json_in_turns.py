"""JSON text (RFC 8259) read in short steps: slower than a parser in C, and whoever else waits gets a turn in between.

For what is dear: a megabyte of `[],` keeps a parser in C busy for a tenth of a second, and to free it takes as long.
"""

import math
import re
from collections.abc import Callable
from typing import Any

from mintflow_realtime.protocol.turns import Pause

# As deep as the parser in C goes, roughly.
MAX_DEPTH = 900
# Values between two pauses: well under a millisecond.
STEP = 512

_VALUE = re.compile(
    r'[ \t\n\r]*+(?:"([^"\\\x00-\x1f]*+)"|(-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?([eE][+-]?[0-9]++)?)'
    r"|([\[{])|(true|false|null)|(\"))"
).match
_NEXT = re.compile(r"[ \t\n\r]*+([,\]}])").match
_EMPTY_LIST = re.compile(r"[ \t\n\r]*+\]").match
_EMPTY_OBJECT = re.compile(r"[ \t\n\r]*+\}").match
_NAME = re.compile(r'[ \t\n\r]*+(?:"([^"\\\x00-\x1f]*+)"|(\"))').match
_COLON = re.compile(r"[ \t\n\r]*+:").match
_END = re.compile(r"[ \t\n\r]*+\Z").match
# A part of a string with escapes; it doesn't end within a pair of surrogates.
_PART = re.compile(
    r'(?:[^"\\\x00-\x1f]+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^\n\r]){1,2048}'
).match
_WORDS = {"true": True, "false": False, "null": None}


class JsonReader:
    """Reads one text; `string` reads a short one with escapes. `made` are the containers, for `let_go`."""

    def __init__(self, text: str, string: Callable[[str], Any], pause: Pause) -> None:
        self._text, self._string, self._pause = text, string, pause
        self._at = 0
        self.made: list[Any] = []

    def read(self) -> Any:
        """Return the value. Raises ValueError."""
        text, made, pause = self._text, self.made, self._pause
        root: list[Any] = []
        here: Any = root
        name: Any = None
        stack: list[Any] = []
        at = steps = 0
        while True:
            steps += 1
            if steps % STEP == 0:
                pause()
            found = _VALUE(text, at)
            if found is None:
                raise ValueError(f"JSON is malformed (character {at})")
            kind, at = found.lastindex, found.end()
            value: Any
            if kind == 1:
                value = found[1]
            elif kind == 2:
                value = _number(found)
            elif kind == 6:
                value = _WORDS[found[6]]
            elif kind == 7:
                value, at = self._long_string(at)
            else:
                value = [] if found[5] == "[" else {}
                made.append(value)
            if name is None:
                here.append(value)
            else:
                here[name] = value
            if kind == 5:
                empty = (_EMPTY_LIST if found[5] == "[" else _EMPTY_OBJECT)(text, at)
                if empty is None:
                    stack.append(here)
                    if len(stack) > MAX_DEPTH:
                        raise ValueError("JSON is nested too deeply")
                    here = value
                    name, at = self._name(at) if found[5] == "{" else (None, at)
                    continue
                at = empty.end()
            while stack:
                found = _NEXT(text, at)
                if found is None:
                    raise ValueError(f"JSON is malformed (character {at})")
                at, mark = found.end(), found[1]
                if mark == ",":
                    name, at = self._name(at) if isinstance(here, dict) else (None, at)
                    break
                if (mark == "}") != isinstance(here, dict):
                    raise ValueError(f"JSON is malformed (character {at})")
                here = stack.pop()
            else:
                if _END(text, at) is None:
                    raise ValueError(f"JSON is followed by more (character {at})")
                return root[0]

    def _name(self, at: int) -> tuple[str, int]:
        text = self._text
        found = _NAME(text, at)
        if found is None:
            raise ValueError(f"JSON is malformed (character {at})")
        name, at = (found[1], found.end()) if found.lastindex == 1 else self._long_string(found.end())
        colon = _COLON(text, at)
        if colon is None:
            raise ValueError(f"JSON is malformed (character {at})")
        return name, colon.end()

    def _long_string(self, at: int) -> tuple[str, int]:
        parts = []
        while (found := _PART(self._text, at)) is not None:
            parts.append(self._string(f'"{found[0]}"'))
            at = found.end()
            self._pause()
        if self._text[at : at + 1] != '"':
            raise ValueError(f"JSON is malformed (character {at})")
        return "".join(parts), at + 1


def let_go(made: list[Any], pause: Pause) -> None:
    """Free containers that were read, in short steps: as long as they are in `made`, none takes others along."""
    made.reverse()
    while made:
        del made[-STEP:]
        pause()


def _number(found: re.Match[str]) -> int | float:
    if found[3] is None and found[4] is None:
        return int(found[2])
    return finite(found[2])


def finite(text: str) -> float:
    """Return the number of a JSON text. Raises ValueError where it is out of range."""
    number = float(text)
    if math.isinf(number):
        raise ValueError("Number out of range")
    return number
