"""Who may connect to a namespace: the transport asks, and somebody above it decides."""

from typing import Any, Protocol


class Refusal(Exception):
    """A CONNECT that is refused for good: stock clients don't try again. `answer` is the CONNECT_ERROR's payload."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.answer = {"message": message, "data": {"code": code}}


class NotNow(Exception):
    """A CONNECT that may pass later: the transport is closed, and clients come back by themselves."""


class Gate(Protocol):
    """Decides who may connect to a namespace, and hears who did."""

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> None:
        """Return, or raise Refusal or NotNow. May block."""
        ...

    def joined(self, sid: str, namespace: str) -> None:
        """Hear that CONNECT was sent: the time to enter rooms."""
        ...

    def left(self, sid: str, namespace: str) -> None:
        """Hear that an admitted sid is gone, or was refused by its namespace after all."""
        ...
