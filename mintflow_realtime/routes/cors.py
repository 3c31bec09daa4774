"""What pages of other origins may do with the HTTP API (Fetch standard, 3.2): preflights, and a word on all answers."""

from collections.abc import Iterable

from flask import Blueprint, Response, request

from mintflow_realtime.auth.origins import OriginPolicy

ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, X-Tenant-Id"  # those we read
)
EXPOSED_HEADERS = "ETag, Retry-After"
# As long as Chromium remembers one at most.
MAX_AGE_SECONDS = 7200


class Cors:
    """Adds CORS headers to a blueprint's answers, refusals too. `methods`: those that pages may use.

    Where PUT is allowed PATCH is, which changes less.
    """

    def __init__(self, policy: OriginPolicy, methods: Iterable[str], credentials: bool) -> None:
        listed = [method.upper() for method in methods]
        self._policy, self._credentials = policy, credentials
        self._methods = ", ".join(dict.fromkeys([*listed, *(["PATCH"] if "PUT" in listed else []), "OPTIONS"]))

    def protect(self, blueprint: Blueprint) -> None:
        """Apply to every answer of `blueprint`, also where the host application answers before its views do."""
        blueprint.after_request(self.apply)

    def apply(self, response: Response) -> Response:
        """Add to `response` what the page of the request's origin may do and see."""
        headers = response.headers
        # Flask-CORS on the same application would say it twice, which browsers take for nothing.
        response._FLASK_CORS_EVALUATED = True  # type: ignore[attr-defined]
        for name in [name for name in headers.keys() if name.lower().startswith("access-control-")]:
            del headers[name]
        if self._policy.any:
            headers["Access-Control-Allow-Origin"] = "*"
        else:
            response.vary.add("Origin")
            origin = request.headers.get("Origin")
            if not origin or not self._policy.allows(origin, request.environ):
                return response
            headers["Access-Control-Allow-Origin"] = origin
            if self._credentials:
                headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = self._methods
            headers["Access-Control-Allow-Headers"] = ALLOWED_HEADERS
            headers["Access-Control-Max-Age"] = str(MAX_AGE_SECONDS)
        else:
            headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
        return response
