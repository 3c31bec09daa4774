"""`/console`: the page, its files, and the two calls by which it signs in. All else it asks of the wire and the API."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec
from flask import Blueprint, Response, redirect, request, url_for

from mintflow_realtime.auth.handshake import bearer_from
from mintflow_realtime.auth.policy import ADMIN
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.console import CONSOLE_BLUEPRINT
from mintflow_realtime.console.files import STATIC, page, send
from mintflow_realtime.console.headers import protect
from mintflow_realtime.console.vendored import FOLDER
from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.services.access_log import AccessLog
from mintflow_realtime.services.console_access import ConsoleAccess

URL_PREFIX = "/console"
_Answer = tuple[Principal, Response]
_STATUS = {"forbidden": 403, "tenant_denied": 403, "tenant_required": 400, "too_large": 413, Unavailable.code: 503}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the page finds what it talks to, as paths of its own origin, and which version that is."""

    socket_path: str
    api: str
    version: str


def blueprint(access: ConsoleAccess, places: Places, access_log: AccessLog) -> Blueprint:
    """Return the console's blueprint."""

    def answered(view: Callable[[], _Answer]) -> Callable[[], Response]:
        def respond() -> Response:
            began = monotonic()
            error: RealtimeError | None = None
            who: tuple[str | None, str | None]
            try:
                principal, answer = view()
                response, who = answer, (principal.user_id, principal.tenant)
            except RealtimeError as caught:
                error, who = caught, caught.who
                response = _json({"error": error.to_wire()}, _STATUS.get(error.code, 401))
            access_log.note(
                "called" if error is None else "refused",
                user=who[0],
                tenant=who[1],
                method=request.method,
                path=request.path,
                address=request.remote_addr,
                code=response.status_code,
                reason=error.code if error else None,
                duration=round(monotonic() - began, 4),
            )
            return response

        return respond

    def session() -> _Answer:
        """Tell who asks, what it may do, and where things are; a ticket is exchanged for a session."""
        principal, given = access.admit(_bearer(), _tenant())
        who: dict[str, Any] = {
            "userId": principal.user_id,
            "name": principal.name,
            "tenant": principal.tenant,
            "tenants": principal.tenants,
            "scope": sorted(principal.permissions | ({ADMIN} if principal.admin else frozenset())),
            "anonymous": principal.anonymous,
            "expiresAt": None if principal.expires_at is None else iso(round(principal.expires_at * 1000)),
            "socketPath": request.root_path.rstrip("/") + places.socket_path,
            "api": request.root_path.rstrip("/") + places.api,
            "version": places.version,
        }
        return principal, _json(who | ({"session": given} if given else {}))

    def ticket() -> _Answer:
        """Give a session a new ticket, which one connection or one call of the API is opened with."""
        principal, issued = access.issue_ticket(_bearer(), _tenant())
        return principal, _json({"ticket": str(issued), "expiresAt": issued.expires_at}, 201)

    console = Blueprint(CONSOLE_BLUEPRINT, __name__, url_prefix=URL_PREFIX)
    console.add_url_rule("", "enter", lambda: redirect(url_for(f"{CONSOLE_BLUEPRINT}.index"), 308))
    console.add_url_rule("/", "index", page)
    console.add_url_rule("/static/<path:name>", "static", lambda name: send(STATIC, name))
    console.add_url_rule("/vendor/<path:name>", "vendor", lambda name: send(FOLDER, name))
    console.add_url_rule("/session", "session", answered(session), methods=["POST"])
    console.add_url_rule("/ticket", "ticket", answered(ticket), methods=["POST"])
    console.after_request(protect)
    return console


def _bearer() -> str | None:
    return bearer_from(request.headers.get("Authorization"))


def _tenant() -> str | None:
    return request.headers.get("X-Tenant-Id") or None


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, content_type="application/json")
