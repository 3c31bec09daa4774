"""From the error tree to HTTP: one table of statuses, one form of body."""

import logging
import secrets

from flask import Response, request

from mintflow_realtime.metrics.series import FAILURES
from mintflow_realtime.protocol.errors import Internal, InvalidPayload, RealtimeError
from mintflow_realtime.routes.answers import answer

_log = logging.getLogger("mintflow.routes")

# What is missing here is a fault of ours.
_STATUS = {
    "tenant_required": 400,
    "authentication_required": 401,
    "authentication_failed": 401,
    "token_expired": 401,
    "forbidden": 403,
    "tenant_denied": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "invalid_payload": 422,
    "rate_limited": 429,
    "unavailable": 503,
}


class Malformed(InvalidPayload):
    """What can't be read at all: a body that is not JSON; a path, query or header of the wrong form. Status 400."""


class MethodNotAllowed(RealtimeError):
    """The path is ours, the method is not one of its own."""

    code = "method_not_allowed"


def refusal(error: RealtimeError) -> Response:
    """Return the response that tells of `error`."""
    status = _STATUS.get(error.code, 500)
    if isinstance(error, Malformed) or (status == 422 and request.method in ("GET", "HEAD", "DELETE")):
        # Without a body, what was wrong is the query.
        status = 400
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retryable:
        headers["Retry-After"] = "1"
    return answer({"error": error.to_wire()}, status, headers)


def internal() -> Internal:
    """Log the exception in flight, and return an error that says no more than where in the log it is."""
    FAILURES.add("http")
    correlation_id = secrets.token_hex(8)
    # The rule, not the path, which is the client's text.
    _log.exception("%s %s failed (correlation id %s)", request.method, request.url_rule, correlation_id)
    return Internal("Something went wrong here", correlationId=correlation_id)
