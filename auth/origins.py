"""Which pages of browsers may ask: origins (RFC 6454) compared as browsers mean them, one policy for every door.

What comes from clients is cut apart by hand: no pattern runs over it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any

# Longer than any that a browser sends: a host has at most 253 characters.
MAX_CHARACTERS = 320
# Refused origins are logged once each, and no more than these.
MAX_LOGGED = 200
OPAQUE = "null"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NOT_IN_HOSTS = frozenset(" \t\r\n/\\?#@%,;<>\"'`|^{}")

_log = logging.getLogger("mintflow.auth")


def normalize(origin: str) -> str | None:
    """Return an origin as equal ones are written: small letters, no default port. None for what is no origin."""
    if origin == OPAQUE:
        return OPAQUE
    if len(origin) > MAX_CHARACTERS:
        return None
    scheme, separator, place = origin.partition("://")
    if not separator or not place or not _NOT_IN_HOSTS.isdisjoint(place):
        return None
    scheme = scheme.lower()
    if not scheme.isascii() or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        return None
    host, port = _split(place)
    name = _host(host)
    if name is None or not (port == "" or port.isascii() and port.isdecimal() and len(port) <= 5):
        return None
    number = int(port) if port else None
    shown = "" if number is None or _DEFAULT_PORTS.get(scheme) == number else f":{number}"
    return f"{scheme}://{name}{shown}"


def _split(place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, bracket, rest = place.partition("]")
        return (host + bracket, rest[1:]) if rest[:1] in ("", ":") else ("", "")
    host, _, port = place.partition(":")
    return host, port


def _host(host: str) -> str | None:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1])}]" if host.endswith("]") else None
        except ValueError:
            return None
    if not host.isascii():
        try:
            # Browsers send names of other scripts so.
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    labels = host.removesuffix(".").split(".")
    return host.lower() if host and all(labels) and "[" not in host and "]" not in host else None


class OriginPolicy:
    """Allows this server's own origin, and those of a list, or all (`*`), or those that a function allows.

    A member `https://*.example.com` stands for all names below `example.com`, however deep, and not for itself.
    Raises ValueError for a member that is no origin.
    """

    def __init__(self, allowed: str | Iterable[str] | Callable[[str], bool]) -> None:
        members = [allowed] if isinstance(allowed, str) else [] if callable(allowed) else [*allowed]
        self.any = "*" in members
        self._decide = allowed if callable(allowed) else None
        self._exact: set[str] = set()
        self._below: list[tuple[str, str]] = []
        for member in members:
            if member != "*":
                self._add(member)
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    def _add(self, member: str) -> None:
        scheme, separator, place = member.partition("://")
        wild = place.startswith("*.")
        origin = normalize(f"{scheme}{separator}{place.removeprefix('*.')}")
        if origin is None or "*" in origin:
            raise ValueError(f"{member!r} is no origin")
        if wild:
            scheme, _, place = origin.partition("://")
            self._below.append((f"{scheme}://", f".{place}"))
        else:
            self._exact.add(origin)

    def allows(self, origin: str, environ: Mapping[str, Any]) -> bool:
        """Tell whether a page of `origin` may ask; `environ` (WSGI) says what this server is called."""
        if self.any:
            return True
        found = normalize(origin)
        if found is not None and (self._is_own(found, environ) or self._is_listed(found)):
            return True
        self._log_refused(origin, environ)
        return False

    def _is_own(self, origin: str, environ: Mapping[str, Any]) -> bool:
        return origin != OPAQUE and origin == normalize(own_origin(environ))

    def _is_listed(self, origin: str) -> bool:
        if self._decide is not None:
            try:
                return bool(self._decide(origin))
            except Exception:
                _log.exception("the function in SOCKET_CORS_ORIGIN failed; the origin is refused")
                return False
        return origin in self._exact or any(
            # What is between isn't empty: no label of an origin is.
            origin.startswith(scheme) and origin.endswith(below)
            for scheme, below in self._below
        )

    def _log_refused(self, origin: str, environ: Mapping[str, Any]) -> None:
        shown = origin[:MAX_CHARACTERS]
        with self._lock:
            if shown in self._refused or len(self._refused) > MAX_LOGGED:
                return
            self._refused.add(shown)
            last = len(self._refused) > MAX_LOGGED
        if last:
            _log.warning("more than %d origins were refused; further ones are not logged", MAX_LOGGED)
            return
        own = own_origin(environ)[:MAX_CHARACTERS]
        _log.warning(
            "refused pages of the origin %r: it is neither in SOCKET_CORS_ORIGIN nor this server's own, %r", shown, own
        )


def own_origin(environ: Mapping[str, Any]) -> str:
    """Return the origin that this server has for the client of a request, as a trusted proxy tells."""
    return f"{environ.get('wsgi.url_scheme', 'http')}://{environ.get('HTTP_HOST', '')}"
