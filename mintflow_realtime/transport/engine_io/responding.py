"""How an Engine.IO request's answer becomes a response: CORS, compression, length."""

from collections.abc import Callable
from typing import Any

from mintflow_realtime.metrics.counting import OTHER
from mintflow_realtime.metrics.series import HTTP_REQUESTS
from mintflow_realtime.transport.engine_io import response as answers
from mintflow_realtime.transport.engine_io.request import requested_headers
from mintflow_realtime.transport.engine_io.response import Answer, Body
from mintflow_realtime.transport.http.environ import Environ

# As long as Chromium remembers one at most.
PREFLIGHT_SECONDS = 7200
_ALLOWED_KEY = "mintflow.origin_allowed"


_METHODS = frozenset({"GET", "POST", "OPTIONS"})


def count(method: str, status: str) -> None:
    """Count a request of the socket path; `status` begins with the three digits."""
    HTTP_REQUESTS.add("socket.io", method if method in _METHODS else OTHER, status[:3])


class Responding:
    """The answering half of the Engine.IO server; the library's `Server`, which has the options, stands behind it.

    `cors_allowed_origins` may be a callable of the origin and the environ.
    """

    cors_allowed_origins: Any
    cors_credentials: bool
    http_compression: bool
    compression_threshold: int
    _gzip: Callable[[bytes], bytes]
    _deflate: Callable[[bytes], bytes]
    _cors_allowed_origins: Callable[[Environ], list[str] | None]
    _cors_methods = ""

    def set_cors_methods(self, methods: str) -> None:
        """Take the methods that pages may use, by commas."""
        listed = [method.strip().upper() for method in methods.split(",") if method.strip()]
        self._cors_methods = ", ".join(dict.fromkeys([*listed, "OPTIONS"]))

    def _is_origin_allowed(self, environ: Environ) -> bool:
        origin = environ.get("HTTP_ORIGIN")
        if not origin or self.cors_allowed_origins == []:
            return True
        if not callable(self.cors_allowed_origins):
            allowed = self._cors_allowed_origins(environ)
            return allowed is None or origin in allowed
        # Asked once a request: it may be an application's own.
        if _ALLOWED_KEY not in environ:
            environ[_ALLOWED_KEY] = bool(self.cors_allowed_origins(origin, environ))
        return bool(environ[_ALLOWED_KEY])

    def _cors_headers(self, environ: Environ) -> list[tuple[str, str]]:
        if self.cors_allowed_origins == []:
            return []
        headers = []
        if not callable(self.cors_allowed_origins) and self._cors_allowed_origins(environ) is None:
            # Never with credentials: browsers refuse the pair, and reflecting the origin instead opens it to all.
            headers.append(("Access-Control-Allow-Origin", "*"))
        else:
            headers.append(("Vary", "Origin"))
            if not environ.get("HTTP_ORIGIN") or not self._is_origin_allowed(environ):
                return headers
            headers.append(("Access-Control-Allow-Origin", environ["HTTP_ORIGIN"]))
            if self.cors_credentials:
                headers.append(("Access-Control-Allow-Credentials", "true"))
        if environ["REQUEST_METHOD"] == "OPTIONS":
            headers.append(("Access-Control-Allow-Methods", self._cors_methods))
            headers.append(("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)))
            names = requested_headers(environ)
            if names is not None:
                headers.append(("Access-Control-Allow-Headers", names))
        return headers

    def _respond(self, environ: Environ, start_response: Callable[..., Any], answer: Answer) -> Any:
        # Varnish gave one client's handshake to another, where nothing forbade it.
        headers = [*answer.headers, ("Cache-Control", "no-store"), *self._cors_headers(environ)]
        body = answer.body
        count(environ["REQUEST_METHOD"], answer.status)
        if self.http_compression and len(body) >= self.compression_threshold:
            for coding in environ.get("HTTP_ACCEPT_ENCODING", "").split(","):
                name = coding.split(";")[0].strip()
                compress = {"gzip": self._gzip, "deflate": self._deflate}.get(name)
                if compress is not None:
                    body = compress(body)
                    headers.append(("Content-Encoding", name))
                    break
        if answer is not answers.NO_CONTENT:
            headers.append(("Content-Length", str(len(body))))
        start_response(answer.status, headers)
        return [body] if answer.sent is None else Body(body, answer.sent)
