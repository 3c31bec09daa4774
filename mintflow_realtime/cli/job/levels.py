"""How severe a line of a command's output is: by what it says, else by its stream."""

import re

from mintflow_realtime.protocol.levels import Level, level_of

ANSI = re.compile(r"\x1b\[[0-9;:?]*[@-~]")
BY_STREAM: dict[str, Level] = {"stdout": "info", "stderr": "warn"}
# A level stands at the beginning of a line; its text may say anything.
_LOOKED_AT = 200
_WORDS = "fatal|critical|crit|severe|emerg|panic|error|err|warning|warn|notice|info|debug|trace|verbose"
# `level=warn`, `"severity": "ERROR"`.
_FIELD = re.compile(
    r"""\b(?:log_?level|level|lvl|severity)["']?\s{0,4}[=:]\s{0,4}["']?([a-z]{1,16})\b""", re.IGNORECASE
)
# In capitals anywhere (`12:00:01 ERROR disk`, `[WARN] x`), else before a colon or in brackets (`x.c:1: warning: y`).
_WORD = re.compile(rf"\b({_WORDS.upper()})\b(?![=-])|(?:^|(?<=[\s\[(<]))((?i:{_WORDS}))(?=[:\])>])")
_PYTHON = re.compile(r"Traceback \(most recent call last\)|[\w.]{0,100}(?:Error|Exception)(?::|$)")


def level_of_line(line: str, stream: str) -> Level:
    """Return the level of a line of `stdout` or `stderr`; of several words, the first one counts."""
    head = ANSI.sub("", line[: 2 * _LOOKED_AT])[:_LOOKED_AT]
    if (field := _FIELD.search(head)) and (level := level_of(field[1])):
        return level
    if (word := _WORD.search(head)) and (level := level_of(word[1] or word[2])):
        return level
    return "error" if _PYTHON.match(head) else BY_STREAM[stream]
