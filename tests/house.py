"""The typed namespaces on real services and a real Redis, without a transport: `ask` is what a client's command is."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.gate import Gate
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.auth.tickets import Tickets, ticket_key
from mintflow_realtime.auth.tokens import TokenVerifier
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.namespaces.base import Namespace, RootNamespace
from mintflow_realtime.namespaces.flows import FlowsNamespace
from mintflow_realtime.namespaces.logs import LogsNamespace
from mintflow_realtime.protocol.envelope import decode
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.events import Events
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.stores.access.store import AccessStore
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.runs.store import RunStore
from tests import hall
from tests.servers import SECRET

ALL = "logs:read logs:write logs:clear flows:read flows:write"


class Answers:
    """What one command was answered: by ack, or by events."""

    def __init__(self, acked: bool, sending: Callable[[], None] = lambda: None) -> None:
        self.acked = acked
        self.sending = sending
        self.acks: list[Any] = []
        self.events: list[tuple[str, Any]] = []

    def ack(self, value: Any) -> None:
        self.sending()
        self.acks.append(json.loads(dumps(value)))

    def emit(self, event: str, value: Any) -> None:
        self.sending()
        self.events.append((event, json.loads(dumps(value))))

    @property
    def only(self) -> Any:
        """The one answer: an ack's value, or (event, payload). Anything but exactly one is an error."""
        assert len(self.acks) + len(self.events) == 1, (self.acks, self.events)
        return self.acks[0] if self.acked else self.events[0]


class OpenChannels:
    """The channels of a node that hears everything; it counts what is open."""

    def __init__(self) -> None:
        self.open_now: dict[tuple[str, str], int] = {}
        self.error: Exception | None = None

    def open(self, tenant: str, namespace: str) -> None:
        if self.error is not None:
            raise self.error
        self.open_now[tenant, namespace] = self.open_now.get((tenant, namespace), 0) + 1

    def close(self, tenant: str, namespace: str) -> None:
        self.open_now[tenant, namespace] -= 1
        if not self.open_now[tenant, namespace]:
            del self.open_now[tenant, namespace]


class House:
    """One node of everything above the transport. `closed` is whose connections were closed, and why.

    `stands` is how far the node has heard each log; who waits until it has passed a number makes it hear up to there.
    `before_answer` is what a client had heard of its connection when its last command was answered.
    """

    def __init__(self, runner: RedisClient, keys: Keys, *, rate: float = 0, burst: float = 100) -> None:
        self.hall = hall.ours(runner, "/logs", "/flows", channel=keys.prefix)
        self.manager = self.hall.manager
        self.stands: dict[tuple[str, str], int] = {}
        self.manager.wait_until_passed = self._pass
        self.before_answer: list[tuple[str, Any]] = []
        self.publisher = Publisher(runner, keys, Caps())
        self.log_store, self.run_store = LogStore(runner, keys), RunStore(runner, keys, 60)
        self.logs = Logs(self.publisher, self.log_store, self.manager)
        self.flows = Flows(self.publisher, self.run_store, self.manager, max_subscriptions=5)
        self.events = Events(self.publisher)
        self.access = Access(
            verifier=TokenVerifier(
                algorithms=("HS256",),
                secret=SECRET,
                public_key=None,
                issuer=None,
                audience=None,
                max_lifetime=2_592_000,
            ),
            tickets=Tickets(ticket_key(None, SECRET)),
            store=AccessStore(runner, keys),
            auth_required=False,
            anonymous_tenants=("default",),
            anonymous_scope=ALL,
            api_keys={},
        )
        self.channels, self.closed = OpenChannels(), []
        self.now: float | None = None
        self.handlers: dict[str, Any] = {
            one.namespace: one for one in (RootNamespace("/"), LogsNamespace(self.logs), FlowsNamespace(self.flows))
        }
        self.gate = Gate(
            self.access,
            Clients(rate, burst, lambda: self.now or time.time()),
            self.manager,
            self.channels,
            self._typed_namespace,
            lambda connection, reason: self.closed.append((connection, reason)),
        )
        for handler in self.handlers.values():
            handler.context = self.gate

    def _typed_namespace(self, name: str) -> Namespace | None:
        handler = self.handlers.get(name)
        return handler if isinstance(handler, Namespace) else None

    def serve(self, handler: Namespace) -> None:
        handler.context = self.gate
        self.handlers[handler.namespace] = handler

    def join(self, namespace: str, connection: str = "e1", tenant: str = "acme", **principal: Any) -> Client:
        """Connect a client of a principal with every permission but for what `principal` changes."""
        sid = self.manager.pre_connect(connection, namespace)
        assert sid is not None
        who = replace(Principal.system(tenant), **principal)
        client = Client(sid, connection, namespace, who)
        self.gate.clients.add(client)
        self.channels.open(tenant, namespace)
        self.manager.connect(sid, namespace)
        self.gate.joined(sid, namespace)
        return client

    def ask(self, client: Client, event: str, *args: Any, acked: bool = True) -> Any:
        """Send a command and return its one answer."""
        answers = Answers(acked, lambda: self._note(client.connection))
        self.handlers[client.namespace].respond(client.sid, event, list(args), answers)
        return answers.only

    def did(self, client: Client, event: str, *args: Any) -> Any:
        """Send a command that succeeds; return its data."""
        answer = self.ask(client, event, *args)
        assert answer["ok"] is True and answer.keys() == {"ok", "data"}, answer
        return answer["data"]

    def refused(self, client: Client, event: str, *args: Any) -> str:
        """Send a command that fails; return the error's code."""
        answer = self.ask(client, event, *args)
        assert answer["ok"] is False and answer.keys() == {"ok", "error"}, answer
        assert {"code", "message", "retryable"} <= answer["error"].keys()
        return str(answer["error"]["code"])

    def hear(self, namespace: str, tenant: str = "acme", to: int | None = None) -> None:
        """Deliver what the log holds after where the node stands, up to number `to`, as the node's channel would."""
        key = self.publisher._keys.of(tenant, "log", namespace)
        start = self.stands.get((tenant, namespace), 0) + 1
        end = "+" if to is None else str(to)
        if to is not None and to < start:
            return
        for entry, fields in self.publisher._redis.command("XRANGE", key, str(start), end):
            self.stands[tenant, namespace] = int(entry.partition(b"-")[0])
            self.manager.deliver(namespace, decode(fields[b"m"]))

    def _pass(self, tenant: str, namespace: str, number: int) -> None:
        self.hear(namespace, tenant, number)
        assert self.stands.get((tenant, namespace), 0) >= number, "the log ends before the number that is waited for"

    def _note(self, connection: str) -> None:
        self.before_answer = self.hall.heard(connection)
