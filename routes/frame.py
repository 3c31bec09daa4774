"""The frame around every view: admits the caller, picks the method, and turns each failure into an answer.

It wraps views instead of registering error handlers, which would also take what the host application's own
`before_request` raises on these paths.
"""

from collections.abc import Callable, Mapping

from flask import Response, request

from auth.handshake import bearer_from
from auth.principal import Principal
from protocol.errors import InvalidPayload, RealtimeError
from routes.errors import MethodNotAllowed, internal, refusal
from services.access import Access

# Called with the principal and the URL's ids.
View = Callable[..., Response]

# Those that a rule must name for a wrong one to be answered here, not by the host application's page.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def resource(access: Access, views: Mapping[str, View]) -> View:
    """Return the one view of a path from its view for each method; it never raises."""
    allowed = ", ".join(sorted({*views, "OPTIONS"} | ({"HEAD"} if "GET" in views else set())))

    def respond(**ids: str) -> Response:
        try:
            if request.method == "OPTIONS":
                return Response(status=204, headers={"Allow": allowed})
            view = views.get("GET" if request.method == "HEAD" else request.method)
            if view is None:
                response = refusal(MethodNotAllowed(f"Expected one of {allowed}"))
                response.headers["Allow"] = allowed
                return response
            return view(_principal(access), **ids)
        except RealtimeError as error:
            return refusal(error)
        except RecursionError:
            # Services write JSON a few frames deeper than it was read here.
            return refusal(InvalidPayload("The JSON is nested too deeply"))
        except Exception:
            return refusal(internal())

    return respond


def _principal(access: Access) -> Principal:
    headers = request.headers
    return access.admit_http(
        bearer_from(headers.get("Authorization")), headers.get("X-API-Key"), headers.get("X-Tenant-Id")
    )
