"""What a connecting client says of itself: token and wanted tenant. Unknown fields are the application's own.

An empty text counts as absent: stock clients send `{token: ""}` or null while logged out. Any other type is refused,
since falling through to the next source would act as somebody whom the client did not mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from mintflow_realtime.protocol.errors import AuthenticationError, TenantDenied, TenantRequired

# Engine.IO itself has five (EIO, transport, sid, t, b64); the rest is the application's.
MAX_QUERY_FIELDS = 100


def token_from(auth: object, environ: Mapping[str, Any]) -> str | None:
    """Return the token of the connect payload, else of the Bearer header, else of the query.

    `auth` is the payload as decoded from JSON. Of the WSGI environ only HTTP_AUTHORIZATION and QUERY_STRING are read.
    Raises `AuthenticationError` for a field of the wrong type.
    """
    return (
        _field(auth, "token")
        or bearer_from(environ.get("HTTP_AUTHORIZATION"))
        or _query_field(environ, "token")
        or None
    )


def tenant_wanted(auth: object, environ: Mapping[str, Any]) -> str | None:
    """Return the tenant that the connect payload asks for, else the query. Raises `AuthenticationError`."""
    return _field(auth, "tenantId") or _query_field(environ, "tenantId") or None


def bearer_from(header: str | None) -> str | None:
    """Return the token of an Authorization header, or None where it is of another scheme (a proxy's own, maybe)."""
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def choose_tenant(tenants: Sequence[str], default: str | None, wanted: str | None) -> str:
    """Return the wanted tenant, else the default, else the only one. Raises `TenantDenied` or `TenantRequired`."""
    if wanted:
        if wanted not in tenants:
            raise TenantDenied("That tenant is not one of yours")
        return wanted
    if default is not None:
        return default
    if len(tenants) == 1:
        return tenants[0]
    raise TenantRequired("Name the tenant (tenantId): there is " + ("more than one" if tenants else "no default"))


def _field(auth: object, name: str) -> str:
    if auth is None:
        return ""
    if not isinstance(auth, Mapping):
        raise AuthenticationError("The connect payload must be an object")
    value = auth.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise AuthenticationError(f"The connect payload's {name} must be text")
    return value


def _query_field(environ: Mapping[str, Any], name: str) -> str:
    try:
        fields = parse_qsl(environ.get("QUERY_STRING") or "", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise AuthenticationError(f"The query has more than {MAX_QUERY_FIELDS} fields") from None
    return next((value for key, value in fields if key == name), "")
