"""How an Engine.IO request's answer becomes a response: CORS, compression, length."""

from collections.abc import Callable
from typing import Any

from transport import answers
from transport.answers import Answer, Body
from transport.requests import Environ, requested_headers


class Responding:
    """The answering half of the Engine.IO server; the library's `Server`, which has the options, stands behind it."""

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
        allowed = self._cors_allowed_origins(environ)
        return allowed is None or origin in allowed

    def _cors_headers(self, environ: Environ) -> list[tuple[str, str]]:
        if self.cors_allowed_origins == []:
            return []
        headers = []
        if self._cors_allowed_origins(environ) is None:
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
            names = requested_headers(environ)
            if names is not None:
                headers.append(("Access-Control-Allow-Headers", names))
        return headers

    def _respond(self, environ: Environ, start_response: Callable[..., Any], answer: Answer) -> Any:
        body, headers = answer.body, [*answer.headers, *self._cors_headers(environ)]
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
