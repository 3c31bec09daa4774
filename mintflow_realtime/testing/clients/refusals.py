"""Errors as clients are told them, made into those of the one error tree again."""

from collections.abc import Iterator, Mapping
from typing import Any

from mintflow_realtime.protocol.errors import RealtimeError


class OtherError(RealtimeError):
    """An error whose code is no class of the tree: an application's own."""

    def __init__(self, code: str, message: str, retryable: bool, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        self.code, self.retryable = code, retryable  # type: ignore[misc]


def error_of(told: Mapping[str, Any], message: str) -> RealtimeError:
    """Return the error that `told` describes (`{code, message, retryable, …}`); `message` where it has none."""
    details = {name: value for name, value in told.items() if name not in ("code", "message", "retryable")}
    code, text = str(told.get("code", "")), str(told.get("message") or message)
    for kind in _kinds(RealtimeError):
        if kind.code == code and kind is not OtherError:
            return kind(text, **details)
    return OtherError(code, text, told.get("retryable") is True, details)


def _kinds(kind: type[RealtimeError]) -> Iterator[type[RealtimeError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from _kinds(one)
