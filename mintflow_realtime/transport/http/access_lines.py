"""gunicorn's access log and statsd counters of requests, by its own logger; tokens in queries are left out."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import unquote_plus

from mintflow_realtime.transport.http.environ import Environ
from mintflow_realtime.transport.http.request_head import RequestHead

_SECRET = frozenset({"token", "ticket", "access_token"})

Headers = Iterable[tuple[str, str]]


class _Answer:
    """What gunicorn asks of a response."""

    __slots__ = ("status", "headers", "sent")

    def __init__(self, status: str, headers: Headers, sent: int | None) -> None:
        self.status, self.headers, self.sent = status, headers, sent


class AccessLines:
    """Tells gunicorn's logger of requests that were answered, and of WebSockets that have ended."""

    def __init__(self, access: Callable[[Any, Any, Environ, timedelta], object]) -> None:
        self._access = access

    def answered(
        self, head: RequestHead, environ: Environ, status: str, headers: Headers, sent: int | None, seconds: float
    ) -> None:
        """Tell of one request. `status` such as "200 OK"; `sent`: bytes of the body; `seconds` from head to answer."""
        target, mark, query = head.target.partition("?")
        query = without_secrets(query)
        environ = environ | {"RAW_URI": target + mark + query, "QUERY_STRING": query}
        referer = environ.get("HTTP_REFERER")
        if referer is not None:
            page, mark, query = referer.partition("?")
            environ["HTTP_REFERER"] = page + mark + without_secrets(query)
        fields = {name: environ.get(name, value) for name, value in head.fields.items()}
        asked = [(name.removeprefix("HTTP_").replace("_", "-"), value) for name, value in fields.items()]
        self._access(_Answer(status, headers, sent), asked, environ, timedelta(seconds=seconds))

    def websocket(self, head: RequestHead, environ: Environ) -> Callable[[], None]:
        """Return what tells of a WebSocket, which begins now, when it has ended."""
        return partial(self._ended, head, environ, monotonic())

    def _ended(self, head: RequestHead, environ: Environ, began: float) -> None:
        self.answered(head, environ, "101 Switching Protocols", (), None, monotonic() - began)


def lines_of(log: Any) -> AccessLines | None:
    """Return what tells gunicorn's logger; None where it would do nothing with it."""
    from gunicorn.glogging import Logger

    own = getattr(type(log), "access", None) is not Logger.access
    return AccessLines(log.access) if own or log.access_log_enabled else None


def without_secrets(query: str) -> str:
    """Return a query with `***` in place of the values of tokens and tickets."""
    if not query:
        return query
    return "&".join(map(_without_secret, query.split("&")))


def _without_secret(field: str) -> str:
    name, _, value = field.partition("=")
    return f"{name}=***" if value and unquote_plus(name).strip().lower() in _SECRET else field
