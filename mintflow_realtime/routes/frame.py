"""The frame around every view: admits the caller, picks the method, and turns each failure into an answer.

It wraps views instead of registering error handlers, which would also take what the host application's own
`before_request` raises on these paths.
"""

from collections.abc import Callable, Mapping
from time import monotonic

from flask import Response, request

from mintflow_realtime import tracing
from mintflow_realtime.auth.handshake import bearer_from
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.metrics.series import HTTP_REQUESTS, HTTP_SECONDS
from mintflow_realtime.protocol.errors import InvalidPayload, RealtimeError, Unavailable
from mintflow_realtime.routes.errors import MethodNotAllowed, internal, refusal
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog

# Called with the principal and the URL's ids.
View = Callable[..., Response]

# Those that a rule must name for a wrong one to be answered here, not by the host application's page.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def resource(
    access: Access,
    views: Mapping[str, View],
    access_log: AccessLog | None = None,
    admit: Callable[[Access], Principal] | None = None,
    later: Callable[[], Response] | None = None,
) -> View:
    """Return the one view of a path from its view for each method; it never raises.

    `admit` admits the caller in another way, `later` answers in another way what is unavailable for now.
    """
    allowed = ", ".join(sorted({*views, "OPTIONS"} | ({"HEAD"} if "GET" in views else set())))

    def respond(**ids: str) -> Response:
        began, caller = monotonic(), _Caller()
        # The rule, not the path, and one of METHODS: neither is anybody's invention.
        route = str(request.url_rule)
        attributes = {"http.request.method": request.method, "http.route": route}
        with tracing.serving(f"{request.method} {route}", attributes, request.headers.get("traceparent", "")):
            response = answered(caller, **ids)
            if caller.error is not None:
                tracing.failed(caller.error.code)
        HTTP_REQUESTS.add(route, request.method, str(response.status_code))
        HTTP_SECONDS.observe(monotonic() - began, route)
        if access_log is not None:
            _note(access_log, response, caller, monotonic() - began)
        return response

    def answered(caller: _Caller, **ids: str) -> Response:
        try:
            if request.method == "OPTIONS":
                return Response(status=204, headers={"Allow": allowed})
            view = views.get("GET" if request.method == "HEAD" else request.method)
            if view is None:
                response = refusal(MethodNotAllowed(f"Expected one of {allowed}"))
                response.headers["Allow"] = allowed
                return response
            principal = (admit or _principal)(access)
            caller.who = (principal.user_id, principal.tenant)
            return view(principal, **ids)
        except RealtimeError as error:
            caller.refused(error)
            return later() if later is not None and isinstance(error, Unavailable) else refusal(error)
        except RecursionError:
            # Services write JSON a few frames deeper than it was read here.
            return refusal(InvalidPayload("The JSON is nested too deeply"))
        except Exception:
            return refusal(internal())

    return respond


class _Caller:
    """Who asks, as far as it is known, and why it was refused."""

    __slots__ = ("who", "error")

    def __init__(self) -> None:
        self.who: tuple[str | None, str | None] = (None, None)
        self.error: RealtimeError | None = None

    def refused(self, error: RealtimeError) -> None:
        self.error = error
        if self.who == (None, None):
            self.who = error.who


def _note(log: AccessLog, response: Response, caller: _Caller, seconds: float) -> None:
    """Note a call of the API; one whose token or key was refused is such a line too."""
    user, tenant = caller.who
    error = caller.error
    log.note(
        "refused" if response.status_code in (401, 403) else "called",
        user=user,
        tenant=tenant,
        method=request.method,
        path=request.path,
        address=request.remote_addr,
        code=response.status_code,
        reason=error.code if error is not None else None,
        duration=round(seconds, 4),
    )


def _principal(access: Access) -> Principal:
    headers = request.headers
    return access.admit_http(
        bearer_from(headers.get("Authorization")), headers.get("X-API-Key"), headers.get("X-Tenant-Id")
    )
