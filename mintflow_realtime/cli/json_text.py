"""JSON on a command line."""

import json
from typing import Any

import click


class JsonText(click.ParamType):  # type: ignore[type-arg]  # click 8.1's is not generic
    """A JSON text, decoded; `only` is the type that its value must have."""

    name = "json"

    def __init__(self, only: type | None = None) -> None:
        self._only = only

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"{value[:40]!r} is no JSON: {error}.", param, ctx)
        if self._only and not isinstance(found, self._only):
            self.fail(f"{value[:40]!r} is no JSON object.", param, ctx)
        return found


JSON_VALUE = JsonText()
JSON_OBJECT = JsonText(dict)
