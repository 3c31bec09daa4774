"""`/metrics` on the public port, for who has METRICS_TOKEN."""

import hmac
from collections.abc import Callable

from flask import Blueprint, Response, request

from mintflow_realtime.auth.handshake import bearer_from
from mintflow_realtime.protocol.errors import AuthenticationError
from mintflow_realtime.routes import METRICS_BLUEPRINT
from mintflow_realtime.routes.errors import refusal


def blueprint(token: str, render: Callable[[str], tuple[bytes, str]]) -> Blueprint:
    """Return the blueprint; `render` gives the page and its content type for an Accept header."""
    expected = token.encode()

    def metrics() -> Response:
        given = bearer_from(request.headers.get("Authorization")) or ""
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected):
            return refusal(AuthenticationError("Expected METRICS_TOKEN as the bearer token"))
        page, content_type = render(request.headers.get("Accept", ""))
        return Response(page, content_type=content_type, headers={"Cache-Control": "no-store"})

    found = Blueprint(METRICS_BLUEPRINT, __name__)
    found.add_url_rule("/metrics", "metrics", metrics)
    return found
