"""Where a server is, and who asks: the URL that a person typed, and the connections that it leads to."""

import socket
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlencode, urlsplit

import click

from mintflow_realtime.cli.client.errors import Unreached

# For each step of a connection; a server that is well answers in milliseconds.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a server, its SOCKET_PATH, and what its clients show."""

    secure: bool
    host: str
    port: int
    path: str
    token: str | None = field(default=None, repr=False)
    tenant: str | None = None
    insecure: bool = False

    @classmethod
    def parse(cls, url: str, path: str, token: str | None, tenant: str | None, insecure: bool = False) -> "Target":
        """Read `http(s)://host[:port]`; a path in it goes before `path`. Raises click.UsageError."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise click.UsageError(f"{url!r} is no URL: {error}.") from None
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        if scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"{url!r} must be of the form http://host:port or https://host.")
        if parts.username or parts.password:
            raise click.UsageError("The URL must hold no password: show a token by --token.")
        secure = scheme == "https"
        place = f"{parts.path.rstrip('/')}/{path.strip('/')}/"
        return cls(secure, parts.hostname, port or (443 if secure else 80), place, token or None, tenant, insecure)

    @property
    def origin(self) -> str:
        """The origin of a page of this server."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def auth(self) -> dict[str, str]:
        """The connect payload."""
        shown = {"token": self.token, "tenantId": self.tenant}
        return {name: value for name, value in shown.items() if value}

    def request_target(self, **query: str) -> str:
        """Return path and query of an Engine.IO request."""
        return f"{self.path}?{urlencode({'EIO': '4', **query})}"

    def http(self, timeout: float = PATIENCE) -> HTTPConnection:
        """Return an HTTP connection, which connects with its first request."""
        if self.secure:
            return HTTPSConnection(self.host, self.port, timeout=timeout, context=self._context())
        return HTTPConnection(self.host, self.port, timeout=timeout)

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """Return a connected socket, under TLS where the URL says so. Raises Unreached."""
        try:
            plain = socket.create_connection((self.host, self.port), timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._context().wrap_socket(plain, server_hostname=self.host) if self.secure else plain
        except OSError as error:
            raise Unreached.of(error, self.authority) from error

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
