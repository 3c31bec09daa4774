"""What a trusted proxy says of its client: address, scheme and host, by the `X-Forwarded-` headers."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Address = IPv4Address | IPv6Address

# "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80"
_NODE = re.compile(r"\[(?P<bracketed>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|(?P<four>[0-9.]+)(?::[0-9]{1,5})?").fullmatch
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)(?::[0-9]{1,5})?").fullmatch
# RFC 6455's schemes too: Traefik tells of `wss` for a WebSocket over TLS.
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}

_MOST_HOPS = 32
_HEADERS = frozenset({"HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST"})


class TrustedProxies:
    """Whose headers count: gunicorn's `forwarded_allow_ips`, addresses and networks, or `*` for everybody's.

    A UNIX socket's peer is always trusted, as by gunicorn. Raises ValueError for what is none of these.
    """

    def __init__(self, allowed: str | Iterable[str] = ("127.0.0.1", "::1")) -> None:
        listed = allowed.split(",") if isinstance(allowed, str) else list(allowed)
        names = [name.strip() for name in listed if name.strip()]
        self._all = "*" in names
        self._networks = [ip_network(name, strict=False) for name in names if name != "*"]
        # Most requests come from one proxy.
        self._known: dict[str, bool] = {}

    def apply(self, environ: dict[str, Any], peer: Any) -> None:
        """Put into `environ` what the trusted `peer` says, as gevent gives its address; nothing for any other."""
        if not _HEADERS.isdisjoint(environ):
            if not isinstance(peer, tuple) or self._trusts(str(peer[0])):
                self._take(environ)

    def _take(self, environ: dict[str, Any]) -> None:
        client = self._client(environ.get("HTTP_X_FORWARDED_FOR", ""))
        if client is not None:
            environ["REMOTE_ADDR"] = str(client)
            environ.pop("REMOTE_PORT", None)
        scheme = _SCHEMES.get(_last(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower())
        if scheme is not None:
            environ["wsgi.url_scheme"] = scheme
        host = _last(environ.get("HTTP_X_FORWARDED_HOST", ""))
        if _HOST(host):
            environ["HTTP_HOST"] = host

    def _client(self, hops: str) -> Address | None:
        """Return the last address that no trusted proxy has; where all are trusted, the first."""
        found = None
        for hop in reversed(hops.split(",")[-_MOST_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                break
            found = address
            if not self._trusts(str(address)):
                break
        return found

    def _trusts(self, name: str) -> bool:
        if self._all:
            return True
        known = self._known.get(name)
        if known is None:
            address = _address(name)
            known = address is not None and any(address in network for network in self._networks)
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[name] = known
        return known


_MAPPED = IPv6Network("::ffff:0:0/96")


def _address(text: str) -> Address | None:
    node = _NODE(text)
    try:
        address = ip_address((node["bracketed"] or node["four"]) if node is not None else text.partition("%")[0])
    except ValueError:
        return None
    # A listener of both families shows an IPv4 client so.
    return address.ipv4_mapped if isinstance(address, IPv6Address) and address in _MAPPED else address


def _last(listed: str) -> str:
    """Return what the nearest proxy said: earlier ones may be the client's own words."""
    return listed.rpartition(",")[2].strip()
