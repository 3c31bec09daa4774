"""The publishers of the load: through HTTP, with an `Emitter`, and (in `app.py`) inside a worker.

`python -m tests.cluster.oracle.publishers emitter|http DIRECTORY TENANTS RATE URL…` publishes steadily, `RATE` events
a second for each tenant, until DIRECTORY/stop exists, and writes down what it did.
"""

import http.client
import itertools
import json
import os
import secrets
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import Unavailable
from tests.cluster.oracle.ledger import Draft, Ledger
from tests.cluster.oracle.records import FAILED, OK, UNKNOWN
from tests.servers import token

BOARD = "/board"
WORKSPACES = "/workspaces"
# Flows and workspaces alike.
ROOMS = ("red", "blue")
# A user repeats with the same key until the outcome is known; one in so many is left as it is.
CARELESS = 5
# Nothing that the faults do lasts longer.
PATIENCE = 60.0

# Of a publisher that can: each so many-th time in /logs, so many records together, which is more than one script's.
BATCH_EVERY, BATCH = 8, 60

# Publishes a draft and returns its offset ("" where there are none). Raises Unavailable where the outcome is
# unknown, ConnectionRefusedError where it certainly did not happen.
Door = Callable[[Draft], str]
# The same for several together.
BatchDoor = Callable[[Sequence[Draft]], Sequence[str]]


def drafts(publisher: str, tenants: Sequence[str], namespaces: Sequence[str]) -> Iterator[Draft]:
    """Yield what a publisher publishes, tenants and namespaces in turn; /flows mostly to those who follow a flow."""
    for sequence in itertools.count(1):
        tenant = tenants[sequence % len(tenants)]
        nth = sequence // len(tenants)
        namespace = namespaces[nth % len(namespaces)]
        room = ""
        turn = nth // len(namespaces)
        if namespace == WORKSPACES or (namespace == "/flows" and turn % 3):
            room = ROOMS[turn % 2]
        yield Draft(f"{publisher}.{sequence}", tenant, namespace, room, publisher, sequence * BATCH)


def batch_of(draft: Draft) -> list[Draft]:
    """Return a batch in the place of one draft."""
    return [
        draft._replace(id=f"{draft.id}.{number}", sequence=draft.sequence + number, batch=draft.id)
        for number in range(BATCH)
    ]


def publish_steadily(
    door: Door,
    directory: Path,
    kind: str,
    tenants: Sequence[str],
    namespaces: Sequence[str],
    rate: float,
    *,
    repeats: bool = True,
    batch_door: BatchDoor | None = None,
) -> None:
    """Publish one after the other, at most `rate` a second, while DIRECTORY/go exists and DIRECTORY/stop doesn't."""
    publisher = f"{kind}-{os.getpid()}-{secrets.token_hex(2)}"
    ledger = Ledger(directory, publisher)
    while not (directory / "go").exists():
        time.sleep(0.1)
    due = time.monotonic()
    logs = 0
    for number, draft in enumerate(drafts(publisher, tenants, namespaces), 1):
        if (directory / "stop").exists():
            break
        patience = PATIENCE if repeats and number % CARELESS else 0.0
        logs += draft.namespace == "/logs"
        if batch_door and draft.namespace == "/logs" and logs % BATCH_EVERY == 0:
            _publish(batch_door, ledger, batch_of(draft), patience)
        else:
            _publish(lambda one: [door(one[0])], ledger, [draft], patience)
        # Whoever was held up doesn't make up for it.
        due = max(due + 1 / rate, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    ledger.close()


def _publish(door: BatchDoor, ledger: Ledger, together: Sequence[Draft], patience: float) -> None:
    end = time.monotonic() + patience

    def ended(outcome: str, told: Sequence[str]) -> None:
        for draft, text in zip(together, told, strict=True):
            ledger.ended(draft, outcome, text)

    while True:
        for draft in together:
            ledger.trying(draft)
        try:
            offsets = door(together)
        except ConnectionRefusedError as error:
            ended(FAILED, [str(error)] * len(together))
        except Unavailable as error:
            ended(UNKNOWN, [str(error)] * len(together))
        else:
            ended(OK, offsets)
            return
        if time.monotonic() > end:
            return
        time.sleep(0.2)


def python_door(publishes: Any) -> Door:
    """Publish with what an `Emitter` and a `SocketManager` have in common."""

    def publish(draft: Draft) -> str:
        tenant, key, payload = draft.tenant, draft.id, draft.payload
        if draft.namespace == "/logs":
            done = publishes.logs.append(tenant, message="m", metadata=payload, idempotency_key=key)
        elif draft.namespace == WORKSPACES:
            done = publishes.workspaces.update(tenant, draft.room, {"last": payload}, idempotency_key=key)
        elif draft.namespace == BOARD:
            done = publishes.publish(tenant, draft.namespace, "card", payload, idempotency_key=key)
        elif draft.room:
            done = publishes.flows.progress(tenant, draft.room, "run", 1, data=payload, idempotency_key=key)
        else:
            done = publishes.flows.started(tenant, "other", draft.publisher, data=payload, idempotency_key=key)
        # A workspace's full state has no number, and comes first.
        return str(done.offsets[-1])

    return publish


class HttpDoor:
    """Publishes over one kept-alive connection, and turns to the next host when that breaks, as behind a balancer."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._hosts = itertools.cycle([urllib.parse.urlsplit(url).netloc for url in urls])
        self._connection: http.client.HTTPConnection | None = None
        self._tokens: dict[str, str] = {}

    def __call__(self, draft: Draft) -> str:
        answer = self._ask(draft.tenant, draft.id, *_request(draft))
        return str(answer.get("offsets", [""])[0])

    def batch(self, together: Sequence[Draft]) -> Sequence[str]:
        """Publish log records in one request."""
        first = together[0]
        answer = self._ask(first.tenant, first.batch, "POST", "/logs", [_record(draft) for draft in together])
        return [str(offset) for offset in answer["offsets"]]

    def _ask(self, tenant: str, key: str, verb: str, path: str, body: Any) -> dict[str, Any]:
        bearer = self._tokens.setdefault(tenant, token("publisher", [tenant]))
        headers = {
            "Authorization": f"Bearer {bearer}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        if self._connection is None:
            connection = http.client.HTTPConnection(next(self._hosts), timeout=5)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                raise ConnectionRefusedError(str(error)) from None
            self._connection = connection
        try:
            self._connection.request(verb, "/api/v1" + path, json.dumps(body), headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise Unavailable(repr(error)) from None
        if answer.will_close:
            self._drop()
        if answer.status >= 500:
            self._drop()
            raise Unavailable(f"{answer.status} {text.decode(errors='replace')[:200]}")
        if answer.status not in (200, 202):
            raise RuntimeError(f"{key} was answered {answer.status}: {text!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _request(draft: Draft) -> tuple[str, str, dict[str, Any]]:
    if draft.namespace == "/logs":
        return "POST", "/logs", _record(draft)
    if draft.namespace == WORKSPACES:
        return "PATCH", f"/workspaces/{draft.room}", {"last": draft.payload}
    if draft.room:
        body = {"type": "flow_progress", "progress": 1, "data": draft.payload}
        return "POST", f"/flows/{draft.room}/runs/run/events", body
    path = f"/flows/other/runs/{draft.publisher}/events"
    return "POST", path, {"type": "flow_started", "data": draft.payload}


def _record(draft: Draft) -> dict[str, Any]:
    return {"logLevel": "info", "message": "m", "metadata": draft.payload}


def main(kind: str, directory: str, tenants: str, rate: str, *urls: str) -> None:
    emitters = [Emitter(urls[0])] if kind == "emitter" else []
    namespaces = ("/logs", "/flows", WORKSPACES, BOARD) if emitters else ("/logs", "/flows", WORKSPACES)
    failures: list[BaseException] = []

    def run(tenant: str) -> None:
        http = HttpDoor(urls)
        door, batch_door = (python_door(emitters[0]), None) if emitters else (http, http.batch)
        try:
            publish_steadily(door, Path(directory), kind, [tenant], namespaces, float(rate), batch_door=batch_door)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run, args=(tenant,)) for tenant in tenants.split(",")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for emitter in emitters:
        with suppress(Exception):
            emitter.close()
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
