"""A tenant of a test's own on a running node: clients and requests of it, and nothing of any other test's."""

import secrets
from typing import Any

import requests

from tests.plain_client import CONNECT, Plain
from tests.servers import Node, run_js, token
from tests.watcher import Watcher


class Tenant:
    """One tenant; everything that was opened is closed by `stop`."""

    def __init__(self, node: Node, name: str | None = None) -> None:
        self.node, self.url = node, node.url
        self.name = name or "t" + secrets.token_hex(5)
        self._open: list[Any] = []
        self._turn = 0

    def token(self, user: str = "ann", **claims: Any) -> str:
        return token(user, **{"tenants": [self.name], **claims})

    def plain(self, *namespaces: str, user: str = "ann", **claims: Any) -> Plain:
        """Return a client of packets, connected to `namespaces`; one after the other is on the next worker."""
        if len(self.node.workers()) > 1:
            with self.node.accepting_only(self._turn):
                client = Plain(self.url)
            self._turn += 1
        else:
            client = Plain(self.url)
        self._open.append(client)
        for namespace in namespaces:
            assert client.join(namespace, {"token": self.token(user, **claims)}).kind == CONNECT
        return client

    def watcher(self, *namespaces: str, user: str = "ann", **options: Any) -> Watcher:
        """Return a python-socketio client, connected to `namespaces`."""
        watcher = Watcher(self.url, *namespaces, auth={"token": self.token(user)}, **options)
        self._open.append(watcher)
        return watcher

    def js(self, script: str, *args: str, seconds: float = 60.0) -> str:
        return run_js(script, self.url, self.token(), *args, seconds=seconds)

    def http(self, verb: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Ask the HTTP API, as a member of this tenant unless `headers` say otherwise."""
        options.setdefault("headers", {"Authorization": f"Bearer {self.token()}"})
        return requests.request(verb, self.url + "/api/v1" + path, json=body, timeout=10, **options)

    def log(self, *messages: str, level: str = "info", **fields: Any) -> list[str]:
        """Publish log records, all in one request; return their offsets."""
        records = [{"logLevel": level, "message": message, **fields} for message in messages]
        answer = self.http("POST", "/logs", records)
        assert answer.status_code == 202, answer.text
        return list(answer.json()["offsets"])

    def run(self, flow: str, run: str, *events: dict[str, Any]) -> list[str]:
        """Publish events of a run, all in one request; return their offsets."""
        answer = self.http("POST", f"/flows/{flow}/runs/{run}/events", list(events))
        assert answer.status_code == 202, answer.text
        return list(answer.json()["offsets"])

    def stop(self) -> None:
        for client in reversed(self._open):
            client.close()
