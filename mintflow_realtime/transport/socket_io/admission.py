"""Who may connect to a namespace: the transport asks, and somebody above it decides."""

from collections.abc import Callable
from typing import Any, Protocol


class Refusal(Exception):
    """A CONNECT that is refused for good: stock clients don't try again. `answer` is the CONNECT_ERROR's payload.

    `who`: the user and the tenant, where they are known.
    """

    def __init__(self, message: str, code: str, who: tuple[str | None, str | None] = (None, None)) -> None:
        super().__init__(message)
        self.who = who
        self.answer = {"message": message, "data": {"code": code}}


class NotNow(Exception):
    """A CONNECT that may pass later: the transport is closed, and clients come back by themselves.

    `busy`: it is not of this client's, so that others would fare no better.
    """

    def __init__(self, message: str, *, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


class AnswerThenClose(Exception):
    """A CONNECT that is answered and goes no further: its client is to pass on what it holds, and to come back.

    `then` is called, in a greenlet, when it has heard `answer`; the transport is closed after that.
    """

    def __init__(self, answer: dict[str, Any], then: Callable[[], None]) -> None:
        super().__init__("Connected only to pass on what it holds")
        self.answer, self.then = answer, then


class Watch(Protocol):
    """Is told, for a log and for numbers, how each CONNECT ended, and who leaves."""

    def connected(self, eio_sid: str, sid: str, namespace: str) -> None:
        """Note that CONNECT was accepted."""
        ...

    def refused(self, eio_sid: str, namespace: str, answer: Any, who: tuple[str | None, str | None]) -> None:
        """Note that CONNECT was refused, with `answer`."""
        ...

    def leaving(self, eio_sid: str, sid: str, namespace: str, reason: str) -> None:
        """Note that a client leaves a namespace; nothing has forgotten it yet."""
        ...

    def upgraded(self, eio_sid: str) -> None:
        """Note that a session went over from polling to a WebSocket."""
        ...

    def ended(self, eio_sid: str) -> None:
        """Note that a connection has ended, and that nobody is left in any of its namespaces."""
        ...


class Gate(Protocol):
    """Decides who may connect to a namespace, and is told who did."""

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> str | None:
        """Return the sid to go on with, None for the given one; may block. Raises Refusal, NotNow, AnswerThenClose."""
        ...

    def prepare(self, sid: str, namespace: str) -> dict[str, Any]:
        """Return what CONNECT says beside the sid; it is sent before anything else runs. May block before that."""
        ...

    def joined(self, sid: str, namespace: str) -> None:
        """Note that CONNECT was sent: the time to enter rooms."""
        ...

    def left(self, sid: str, namespace: str, connection: str | None = None, *, for_good: bool = False) -> None:
        """Note that an admitted sid is gone, or was refused by its namespace after all.

        `connection` is its eio_sid: the sid may be another's by now. `for_good`: a DISCONNECT packet was sent or came.
        """
        ...
