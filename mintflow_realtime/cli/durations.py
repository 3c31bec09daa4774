"""Durations on a command line: `90`, `90s`, `15m`, `1h`, `7d`."""

import re
from typing import Any

import click

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg]  # click 8.1's is not generic
    """Seconds, from a number with an optional unit."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", value.strip())
        if not found:
            self.fail(f"{value!r} is no duration, such as 90s, 15m, 1h or 7d.", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


DURATION = Duration()
