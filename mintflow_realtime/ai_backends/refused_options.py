"""Options that a model's server doesn't take: found in its refusal, left out, and remembered for that model."""

import re
from collections import OrderedDict
from typing import Any

import openai

# Users name models, so what is remembered of them is bounded.
MAX_MODELS = 256
# What a refusal can be about: the question itself is never left out.
OPTIONS = ("stream_options", "temperature", "max_tokens", "max_completion_tokens")
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_STATUSES = (400, 422, 501)
MAX_READ_CHARACTERS = 20_000
_words = re.compile(r"[a-z_]+")
# A value that is out of range says nothing about the option.
_of_values = re.compile(
    r"too (large|high|big|small|low)|at (most|least)|(less|greater|more|higher|lower) than|exceed|maximum|minimum"
    r"|between|range"
)
_of_options = re.compile(r"supported|unsupported|unknown|unrecognized|unexpected|permitted|instead|does not support")


class RefusedOptions:
    """Which options each model is asked without, or under another name."""

    def __init__(self) -> None:
        self._by_model: OrderedDict[str, dict[str, str]] = OrderedDict()

    def of(self, model: str) -> dict[str, str]:
        """Return the options of `model` that are refused, each with the name that stands in its place, or ''."""
        if model not in self._by_model:
            return {}
        self._by_model.move_to_end(model)
        return self._by_model[model]

    def remember(self, model: str, refused: dict[str, str]) -> None:
        """Add what `model` was asked without, and then answered."""
        self._by_model[model] = {**self.of(model), **refused}
        while len(self._by_model) > MAX_MODELS:
            self._by_model.popitem(last=False)


def without(asked: dict[str, Any], refused: dict[str, str]) -> dict[str, Any]:
    """Return a request without the options that are refused, their values under the names that stand in their place."""
    changed = dict(asked)
    for name in OPTIONS:
        if name in refused and name in changed:
            value, other = changed.pop(name), refused[name]
            if other and other not in refused:
                changed[other] = value
    return changed


def named_in(error: openai.APIStatusError, asked: dict[str, Any], refused: dict[str, str]) -> dict[str, str]:
    """Return `refused` with the options of `asked` that an error names, or as it was where it names none."""
    if error.status_code not in _STATUSES:
        return refused
    words = _named(error)
    found = {name: _OTHER_NAME.get(name, "") for name in OPTIONS if name in asked and name in words}
    # Where both names of one option are refused, none stands in for the other.
    return {**refused, **{name: "" if other in refused else other for name, other in found.items()}}


def is_about_a_value(error: openai.APIStatusError) -> bool:
    """Tell whether an error is about a value that is out of range: another value may be taken."""
    text = _text(error)
    return _of_values.search(text) is not None and _of_options.search(text) is None


def _named(error: openai.APIStatusError) -> set[str]:
    # `param` is exact; the sentences beside it may name what is to be used instead.
    param = error.param if isinstance(error.param, str) else ""
    words = set(_words.findall(param.lower())) & {*OPTIONS, "include_usage"}
    words = words or set(_words.findall(_text(error)))
    return words | {"stream_options"} if "include_usage" in words else words


def _text(error: openai.APIStatusError) -> str:
    return error.response.text[:MAX_READ_CHARACTERS].lower()
