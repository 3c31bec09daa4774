"""Levels of log records: the four, and what other vocabularies call them."""

from typing import Literal, get_args

Level = Literal["debug", "info", "warn", "error"]
# From the least severe to the most: `minLevel` keeps a level and all after it.
LEVELS: tuple[Level, ...] = get_args(Level)
# How much of a name that none of these knows is kept.
MAX_NAME = 64

# Python's logging and loguru, syslog (RFC 5424, 6.2.1), console and the loggers of JavaScript, java.util.logging.
_NAMES: dict[Level, str] = {
    "debug": "debug trace verbose silly fine finer finest dbg notset all",
    "info": "info information informational notice success log http config",
    "warn": "warn warning wrn",
    "error": "error err critical crit fatal severe alert emergency emerg panic exception failure",
}
_LEVELS: dict[str, Level] = {name: level for level, names in _NAMES.items() for name in names.split()}


def level_of(name: object) -> Level | None:
    """Return the one of the four that `name` means, in capitals or not; None for a name that is none of these."""
    return _LEVELS.get(name.strip().lower()) if isinstance(name, str) else None
