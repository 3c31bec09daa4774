"""The one error tree: what a service raises is what an ack, an `error` event or an HTTP body says."""

from typing import Any, ClassVar


class RealtimeError(Exception):
    """An outcome that the caller is told. `details` join the wire form and never carry secrets or tracebacks."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    # What a change that refused gave along, for the service that knows what it means; never sent as it is.
    texts: tuple[bytes, ...] = ()
    # User and tenant of who is refused, where they are known: for the access log, never sent.
    who: tuple[str | None, str | None] = (None, None)

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        path = self.details.get("path", "$")
        return self.message if path == "$" else f"{self.message} (at {path})"

    def to_wire(self) -> dict[str, Any]:
        """Return `{code, message, retryable, …details}`, as in acks, `error` events and HTTP bodies."""
        return {"code": self.code, "message": self.message, "retryable": self.retryable, **self.details}


class InvalidPayload(RealtimeError):
    """The message is not of its type; `path` names the field (`$.limit`)."""

    code = "invalid_payload"

    def __init__(self, message: str, path: str = "$", **details: Any) -> None:
        super().__init__(message, path=path, **details)


class UnknownEvent(RealtimeError):
    code = "unknown_event"


class NotFound(RealtimeError):
    code = "not_found"


class Forbidden(RealtimeError):
    code = "forbidden"


class Conflict(RealtimeError):
    code = "conflict"


class RateLimited(RealtimeError):
    code = "rate_limited"
    retryable = True


class TooLarge(RealtimeError):
    code = "too_large"


class Unavailable(RealtimeError):
    """Redis did not answer: all of it happened, or nothing. An idempotency key makes a repeat safe.

    `detail` says which Redis, since when and why. It is this exception's text, for who calls from Python and for the
    log; clients are told `message` alone.
    """

    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, detail: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail or self.message


class Internal(RealtimeError):
    """Carries a correlation id, nothing else; the traceback goes to the log."""

    code = "internal"


class AuthenticationError(RealtimeError):
    """Who the caller is could not be settled. Final for stock clients: they don't try again by themselves."""

    code = "authentication_failed"


class AuthenticationRequired(AuthenticationError):
    code = "authentication_required"


class TokenExpired(AuthenticationError):
    code = "token_expired"


class TenantRequired(AuthenticationError):
    code = "tenant_required"


class TenantDenied(AuthenticationError):
    code = "tenant_denied"


class RunCancelled(Exception):
    """Somebody wants the run cancelled that this code runs in; its text is the reason, if there is one."""


def _codes(kind: type[RealtimeError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


CODES = frozenset(_codes(RealtimeError))
"""All that clients may be told."""
