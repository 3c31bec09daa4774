"""What /ai remembers: requests and who runs them, their chunks until ten minutes after the end, and conversations.

All of it belongs to a tenant's user: no key can be built without both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from mintflow_realtime.protocol.errors import Conflict, RateLimited, RealtimeError
from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.scripts import Arg, Change, Keys, Runner, Script
from mintflow_realtime.protocol.wire_json import dumps

# What a request left is kept for so long; while it runs, its node renews all of it.
KEPT_MS = 600_000
RUNNING_LIFE_MS = 2 * KEPT_MS
# Without a node that renews it, a request is nobody's after this long.
LEASE_MS = 15_000
MAX_EXCHANGES = 20
MAX_HISTORY_BYTES = 256 * 1024
HISTORY_LIFE_MS = 24 * 3600 * 1000
MAX_CONVERSATIONS = 100

_accept = Script.beside(__file__, "accept.lua")
_watch = Script.beside(__file__, "watch.lua")
_orphans = Script.beside(__file__, "orphans.lua")
_resume = Script.beside(__file__, "resume.lua")
_cancel = Script.beside(__file__, "cancel.lua")
_forget = Script.beside(__file__, "forget.lua")
_chunk = Path(__file__).with_name("chunk.lua").read_text()
_forget_once = Path(__file__).with_name("forget_once.lua").read_text()
_end = Path(__file__).with_name("end.lua").read_text()


class RequestKey(NamedTuple):
    """Whose request, and which."""

    tenant: str
    user_id: str
    request_id: str

    @property
    def name(self) -> str:
        """What it is called within its tenant: encoded ids, and the ids themselves where those are others."""
        plain = f"{self.user_id}\n{self.request_id}"
        encoded = f"{encode_id(self.user_id)}/{encode_id(self.request_id)}"
        return encoded if encoded == plain.replace("\n", "/") else f"{encoded}/{plain}"

    @classmethod
    def named(cls, tenant: str, name: str) -> "RequestKey":
        """Return the request that is called `name` within `tenant`."""
        user_id, request_id, *plain = name.split("/", 2)
        if plain:
            user_id, _, request_id = plain[0].partition("\n")
        return cls(tenant, user_id, request_id)


class Standing(NamedTuple):
    """How a request stands: its status (None where nothing is known of it), and how long nobody has followed it."""

    status: str | None
    cancelled: bool
    absent_ms: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A request as read: its fields, its chunks as (index, JSON text), and the event log's number then."""

    fields: dict[str, bytes]
    chunks: list[tuple[int, bytes]]
    head: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. `answer` is a whole one as JSON text; `exchange` joins the conversation."""

    status: str
    usage: str = ""
    error: RealtimeError | None = None
    answer: str = ""
    # The model that gave the answer, where the AI service said so.
    model: str = ""
    finish_reason: str = ""
    conversation_id: str = ""
    exchange: tuple[str, str] | None = None


class AiStore:
    """Requests and conversations, by tenant and user."""

    def __init__(self, redis: Runner, keys: Keys, lease_ms: int = LEASE_MS) -> None:
        self._redis = redis
        self._keys = keys
        self._lease_ms = lease_ms

    def accept(self, request: RequestKey, *, owner: str, model: str, stream: bool, most: int, digest: str = "") -> bool:
        """Take on a request for the node `owner`, which may repeat that; return False where another had, or it is over.

        Raises Conflict for an id that another digest has, RateLimited, Unavailable.
        """
        outcome = self._redis.run(
            _accept,
            [self._request(request), self._running(request), self._tenants(request.tenant)],
            [
                request.request_id,
                request.name,
                self._lease_ms,
                most,
                RUNNING_LIFE_MS,
                owner,
                model,
                int(stream),
                digest,
            ],
        )
        if outcome == b"conflict":
            raise Conflict("This requestId is in use")
        if outcome == b"rate_limited":
            raise RateLimited(f"At most {most} requests run at once for one user")
        return bool(outcome == b"ok")

    def chunk(self, request: RequestKey, owner: str, index: int, text: str) -> Change:
        """Return the change that keeps one chunk. It refuses with NotFound once the request has ended, with Conflict
        what is kept already."""
        key = self._request(request)
        return Change(_chunk, [key, key + ":chunks"], [[owner, index, dumps(text), RUNNING_LIFE_MS]])

    def end(self, request: RequestKey, owner: str, ending: Ending) -> Change:
        """Return the change that ends a request. It refuses with NotFound where that has happened.

        `owner` '' ends what no node runs any more, and refuses with Conflict while one does.
        """
        error = ending.error
        exchange = ending.exchange
        args: list[Arg] = [
            owner,
            request.request_id,
            request.name,
            ending.status,
            KEPT_MS,
            ending.usage,
            error.message if error else "",
            error.code if error else "",
            int(error.retryable) if error else "",
            ending.answer,
            dumps(exchange) if exchange else "",
            MAX_EXCHANGES,
            MAX_HISTORY_BYTES,
            HISTORY_LIFE_MS,
            _encoded(ending.conversation_id),
            MAX_CONVERSATIONS,
            ending.finish_reason or (error.details.get("finishReason", "") if error else ""),
            ending.model,
        ]
        key = self._request(request)
        return Change(
            _end,
            [
                key,
                key + ":chunks",
                self._running(request),
                self._tenants(request.tenant),
                self._conversation(request.tenant, request.user_id, ending.conversation_id),
                self._conversations(request.tenant, request.user_id),
            ],
            [args],
        )

    def watch(self, tenant: str, requests: Sequence[tuple[RequestKey, str, bool]]) -> list[Standing]:
        """Return how each of a tenant's requests stands: (request, owner, whether a client here follows it).

        Renews the leases of those whose owner is given.
        """
        keys, args = [self._tenants(tenant)], [self._lease_ms, RUNNING_LIFE_MS]
        told: list[Arg] = [*args]
        for request, owner, followed in requests:
            key = self._request(request)
            keys += [key, self._running(request), key + ":chunks"]
            told += [request.request_id, request.name, owner, int(followed)]
        return [
            Standing(None if status is None else status.decode(), cancel == b"1", int(absent))
            for status, cancel, absent in self._redis.run(_watch, keys, told)
        ]

    def orphans(self, tenant: str, most: int) -> list[RequestKey]:
        """Return requests of a tenant that no node has renewed for a lease; the change that ends one looks again."""
        names = self._redis.run(_orphans, [self._tenants(tenant)], [most])
        return [RequestKey.named(tenant, name.decode()) for name in names]

    def streamed(self, request: RequestKey) -> bool:
        """Tell whether a request was made with `stream`."""
        return bool(self._redis.command("HGET", self._request(request), "stream") == b"1")

    def cancel(self, request: RequestKey) -> str | None:
        """Ask the node that runs a request to cancel it; return its status then, None where it is unknown."""
        status = self._redis.run(_cancel, [self._request(request)], [])
        return None if status is None else str(status.decode())

    def resume(self, request: RequestKey, after: int, head_key: str) -> Kept:
        """Return a request and its chunks after an index; no fields where it is unknown.

        `head_key` is the key of the event log's numbering: read in the same step, so that nothing falls between.
        """
        key = self._request(request)
        head, fields, entries = self._redis.run(_resume, [key, key + ":chunks", head_key], [after + 1])
        found = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True)}
        return Kept(found, [(int(entry.partition(b"-")[2]), texts[1]) for entry, texts in entries], int(head))

    def history(self, tenant: str, user_id: str, conversation_id: str) -> list[tuple[str, str]]:
        """Return a conversation's exchanges (prompt, answer), oldest first."""
        texts = self._redis.command("LRANGE", self._conversation(tenant, user_id, conversation_id), 0, -1)
        return [_exchange.decode(text) for text in reversed(texts)]

    def forget(self, tenant: str, user_id: str, conversation_id: str | None) -> None:
        """Forget one conversation of a user, or all."""
        if conversation_id is None:
            prefix = self._conversation(tenant, user_id, "")
            self._redis.run(_forget, [self._conversations(tenant, user_id)], [prefix])
        else:
            self._redis.command("DEL", self._conversation(tenant, user_id, conversation_id))

    def forgetting(self, tenant: str, user_id: str, conversation_id: str | None, timestamp: str) -> Change:
        """Return the change that forgets one conversation of a user, or all; it answers `timestamp`."""
        prefix, one = self._conversation(tenant, user_id, ""), conversation_id or ""
        keys = [self._conversations(tenant, user_id), self._conversation(tenant, user_id, one)]
        return Change(_forget_once, keys, [[int(conversation_id is None), prefix, timestamp]])

    def _request(self, request: RequestKey) -> str:
        place = f"{encode_id(request.user_id)}/{encode_id(request.request_id)}"
        return self._keys.of(request.tenant, "ai", "request", place)

    def _running(self, request: RequestKey) -> str:
        return self._keys.of(request.tenant, "ai", "running", encode_id(request.user_id))

    def _tenants(self, tenant: str) -> str:
        return self._keys.of(tenant, "ai", "running")

    def _conversation(self, tenant: str, user_id: str, conversation_id: str) -> str:
        return self._keys.of(tenant, "ai", "conversation", f"{encode_id(user_id)}/{_encoded(conversation_id)}")

    def _conversations(self, tenant: str, user_id: str) -> str:
        return self._keys.of(tenant, "ai", "conversations", encode_id(user_id))


def _encoded(conversation_id: str) -> str:
    # None is named where all are meant.
    return encode_id(conversation_id) if conversation_id else ""


_exchange = msgspec.json.Decoder(tuple[str, str])
