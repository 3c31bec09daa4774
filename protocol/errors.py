"""The one error tree: what a service raises is what an ack, an `error` event or an HTTP body says."""

from typing import Any, ClassVar


class RealtimeError(Exception):
    """An outcome that the caller is told. `details` join the wire form and never carry secrets or tracebacks."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    # What a change that refused gave along, for the service that knows what it means; never sent as it is.
    texts: tuple[bytes, ...] = ()

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

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
    """Redis did not answer: all of it happened, or nothing. An idempotency key makes a repeat safe."""

    code = "unavailable"
    retryable = True


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
