"""What the nodes know, asked of them through Redis itself, or of a server's HTTP API."""

import json
from collections.abc import Iterator
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

import click
import msgspec

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.cli.client.polling import ask
from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.nodes import CloseQuery, ConnectionQuery
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.why import WhyQuery
from mintflow_realtime.services.nodes.connections import Connections
from mintflow_realtime.services.nodes.questions import Questions
from mintflow_realtime.services.nodes.why import Reasons
from mintflow_realtime.settings.settings import PublisherSettings
from mintflow_realtime.stores.nodes.store import NodeStore
from mintflow_realtime.stores.redis.url import open_redis

Row = dict[str, Any]


class NodeSource(Protocol):
    """Answers as the HTTP API gives them. Every method raises RealtimeError or click.ClickException."""

    def get(self, path: str, query: dict[str, Any]) -> Row:
        """Return what `GET /api/v1{path}` answers."""
        ...

    def close(self, sid: str | None, query: dict[str, Any]) -> int:
        """Close one connection, or all of a user's; return how many were."""
        ...


class AskedNodes:
    """The nodes, asked through the Redis of the settings, with all permissions."""

    def __init__(self, settings: PublisherSettings) -> None:
        redis, keys = open_redis(settings.redis_url, called=settings.redis_called), Keys(settings.redis_prefix)
        questions = Questions(NodeStore(redis, keys))
        self._connections = Connections(questions)
        self._reasons = Reasons(Publisher(redis, keys, Caps()), questions)
        self._principal = Principal.system("-")

    def get(self, path: str, query: dict[str, Any]) -> Row:
        asked: Any
        if path == "/nodes":
            asked = self._connections.nodes(self._principal)
        elif path == "/why":
            asked = self._reasons.why(self._principal, _converted(query, WhyQuery))
        else:
            asked = self._connections.page(self._principal, _converted(query, ConnectionQuery))
        found: Row = msgspec.to_builtins(asked)
        return found

    def close(self, sid: str | None, query: dict[str, Any]) -> int:
        if sid is None:
            return self._connections.close_user(self._principal, _converted(query, CloseQuery)).closed
        self._connections.close(self._principal, sid)
        return 1


class AskedServer:
    """A server's HTTP API, with a token."""

    def __init__(self, url: str, token: str | None) -> None:
        if not token:
            raise click.UsageError("--url needs --token.")
        self._target = Target.parse(url, "/", token, None)
        self._prefix = urlsplit(url if "://" in url else f"http://{url}").path.rstrip("/")

    def get(self, path: str, query: dict[str, Any]) -> Row:
        return self._ask("GET", path, query)

    def close(self, sid: str | None, query: dict[str, Any]) -> int:
        if sid is None:
            return int(self._ask("DELETE", "/connections", query)["closed"])
        self._ask("DELETE", f"/connections/{quote(sid, safe='')}", {})
        return 1

    def _ask(self, method: str, path: str, query: dict[str, Any]) -> Row:
        connection = self._target.http()
        try:
            where = f"{self._prefix}/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
            answer = ask(connection, method, where, Authorization=f"Bearer {self._target.token}")
        finally:
            connection.close()
        try:
            body: Row = json.loads(answer.body)
        except ValueError:
            body = {}
        if answer.status >= 300 or not isinstance(body, dict):
            error = body.get("error", {}) if isinstance(body, dict) else {}
            raise click.ClickException(error.get("message") or f"{self._target.origin} answers {answer.status}")
        return body


def pages(source: NodeSource, query: dict[str, Any]) -> Iterator[Row]:
    """Yield the pages of `/connections`."""
    while True:
        page = source.get("/connections", query)
        yield page
        if "nextAfter" not in page:
            return
        query = {**query, "after": page["nextAfter"]}


def _converted(query: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(query, kind)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None
