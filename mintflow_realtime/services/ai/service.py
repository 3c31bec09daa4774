"""AI requests: take them on, cancel and resume them, forget conversations. What a user has is nobody else's."""

import hashlib
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from mintflow_realtime.ai_backends.base import Backend, Message, Question
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Publisher, Repeat
from mintflow_realtime.fanout.rooms import ai_request_of, ai_room
from mintflow_realtime.protocol.ai import (
    AiAccepted,
    AiError,
    AiRequest,
    AiUnavailable,
    CancelStream,
    ClearHistory,
    HistoryCleared,
    ResumeStream,
    StreamCancelled,
    StreamResumed,
    told_up_to,
)
from mintflow_realtime.protocol.errors import InvalidPayload, NotFound, RealtimeError, Unavailable
from mintflow_realtime.protocol.times import iso, now_ms
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.services.ai.answers import ended, resumed
from mintflow_realtime.services.ai.events import NAMESPACE, cleared_event
from mintflow_realtime.services.ai.limits import Limits, Spawn, Stopped
from mintflow_realtime.services.ai.run import Run
from mintflow_realtime.services.ai.watch import AiWatch
from mintflow_realtime.services.feeds import Feeds
from mintflow_realtime.stores.ai.store import AiStore, Kept, RequestKey

# Of one node, whoever asks; a backend's connections are bounded by it too.
MAX_RUNNING = 200
NO_BACKEND = (
    "This server has no AI service: set AI_BACKEND=openai with OPENAI_API_KEY, or with OPENAI_BASE_URL for another "
    "server of the same protocol, or AI_BACKEND=echo"
)
CLOSE_SECONDS = 2.0

_request_ids = msgspec.json.Decoder(list[str])


class AiRooms(Feeds, Protocol):
    """What /ai needs of this node's rooms beside what others do."""

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None:
        """Send one event to one client of this node."""
        ...

    def skip_told(self, sid: str, namespace: str, room: str, told: Callable[[str], bool]) -> None:
        """Keep from a client the events of `room` whose arguments (JSON text) `told` knows, up to one it does not."""
        ...


class Ai:
    """The service behind /ai. `backend` is None where none is configured; `spawn` begins a greenlet."""

    def __init__(
        self,
        publisher: Publisher,
        store: AiStore,
        rooms: AiRooms,
        backend: Backend | None,
        spawn: Spawn,
        *,
        max_concurrent: int = 3,
        limits: Limits | None = None,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._rooms = rooms
        self._backend = backend
        self._spawn = spawn
        self._max_concurrent = max_concurrent
        self._limits = limits or Limits()
        self._clock_ms = clock_ms
        self._owner = secrets.token_hex(8)
        self._runs: dict[RequestKey, Run] = {}
        self._watch = AiWatch(publisher, store, rooms, self._runs, self._limits, clock_ms)

    def request(self, principal: Principal, sid: str, command: AiRequest) -> AiAccepted:
        """Take on a request; its events go to this client and to those that resume it.

        One that was taken on before is accepted again, and does nothing more than be followed. Raises AiUnavailable,
        Conflict for an id that other content has, RateLimited, InvalidPayload without a model, Unavailable.
        """
        principal.require("ai:use")
        key = RequestKey(principal.tenant, principal.user_id, command.request_id)
        backend = self._backend
        if backend is None:
            refusal = AiUnavailable(NO_BACKEND)
            self._rooms.send_to(sid, NAMESPACE, "ai_error", AiError.of(command.request_id, refusal, self._now()))
            raise refusal
        model = command.model or backend.default_model
        if not model:
            raise InvalidPayload("Expected a model, since this server has no OPENAI_DEFAULT_MODEL", "$.model")
        if len(self._runs) >= MAX_RUNNING:
            raise Unavailable("This node runs as many AI requests as it can; try again shortly")
        question = Question(
            model,
            self._conversation(principal, command),
            command.options.temperature,
            command.options.max_tokens,
        )
        taken = self._store.accept(
            key,
            owner=self._owner,
            model=model,
            stream=command.stream,
            most=self._max_concurrent,
            digest=_digest(command),
        )
        if not taken or key in self._runs:
            self._repeated(sid, key)
            return AiAccepted(request_id=key.request_id)
        run = self._runs[key] = Run(
            key,
            self._owner,
            question,
            streamed=command.stream,
            conversation_id=command.conversation_id or "",
            backend=backend,
            publisher=self._publisher,
            store=self._store,
            spawn=self._spawn,
            limits=self._limits,
            clock_ms=self._clock_ms,
        )
        try:
            # Events wait until the command is answered.
            self._rooms.begin_history(sid, NAMESPACE, ai_room(*key))
            self._watch.follow(sid, key)
        except ValueError:
            pass  # the client is gone already; it has as long to come back as any other
        finally:
            self._spawn(partial(self._work, run))
        return AiAccepted(request_id=key.request_id)

    def cancel(self, principal: Principal, command: CancelStream) -> StreamCancelled:
        """End a request of the user's, on whichever node it runs. Raises NotFound, Unavailable."""
        principal.require("ai:use")
        key = RequestKey(principal.tenant, principal.user_id, command.request_id)
        if self._store.cancel(key) is None:
            raise NotFound("You have no such request")
        run = self._runs.get(key)
        if run is not None:
            run.stop(Stopped())
        return StreamCancelled(request_id=key.request_id)

    def resume(self, principal: Principal, sid: str, command: ResumeStream) -> StreamResumed:
        """Return what a client missed of a request of its user's, and let what follows come. Raises NotFound."""
        principal.require("ai:use")
        key = RequestKey(principal.tenant, principal.user_id, command.request_id)
        return resumed(key, self._follow(sid, key, command.after))

    def _repeated(self, sid: str, key: RequestKey) -> None:
        """Let a client that lost the answer follow its request; its end is told to who hadn't followed it."""
        if ai_room(*key) in self._rooms.get_rooms(sid, NAMESPACE):
            return
        try:
            kept = self._follow(sid, key, -1)
        except (NotFound, ValueError):
            return  # forgotten in between, or the client is gone
        if kept.fields["status"] != b"running":
            self._rooms.send_to(sid, NAMESPACE, *ended(key, kept, self._now()))

    def _follow(self, sid: str, key: RequestKey, after: int) -> Kept:
        """Let a client hear a request's events from now on; return what was kept of it until then."""
        room = ai_room(*key)
        already = room in self._rooms.get_rooms(sid, NAMESPACE)
        self._rooms.begin_history(sid, NAMESPACE, room)
        # Before anything waits: a client that leaves meanwhile must not be followed for after it has left.
        self._watch.follow(sid, key)
        try:
            kept = self._store.resume(key, after, self._publisher.head_key(key.tenant, NAMESPACE))
            if not kept.fields:
                raise NotFound("You have no such request")
            # Chunks have no number in the log; their index says whether the answer tells of them.
            self._rooms.skip_told(sid, NAMESPACE, room, told_up_to(int(kept.fields.get("next", b"0")) - 1))
            self._rooms.catch_up(sid, key.tenant, NAMESPACE, kept.head)
        except RealtimeError:
            if not already:
                self._watch.unfollow(sid, key)
                self._rooms.leave(sid, NAMESPACE, room)
            raise
        return kept

    def clear(self, principal: Principal, command: ClearHistory) -> HistoryCleared:
        """Forget a conversation of the user's, or all; once with one key. Raises Conflict, Unavailable."""
        principal.require("ai:use")
        tenant, user_id, now = principal.tenant, principal.user_id, self._now()
        repeat = Repeat.of(
            command.idempotency_key, NAMESPACE, "clear_history", command.conversation_id, user=principal.repeats_as
        )
        if repeat is None:
            self._store.forget(tenant, user_id, command.conversation_id)
        else:
            change = self._store.forgetting(tenant, user_id, command.conversation_id, now)
            ((now,),) = self._publisher.publish(tenant, NAMESPACE, [cleared_event()], change, repeat).inserts
        return HistoryCleared(timestamp=now)

    def joined(self, principal: Principal, sid: str) -> None:
        """Note a new client: its tenant's requests are watched over here from now on."""
        self._watch.came(principal.tenant, sid)

    def memo(self, sid: str) -> str:
        """Return which requests a client follows, for `recovered`: a room names them only as they are encoded."""
        return dumps(sorted(key.request_id for key in self._watch.followed_by(sid)))

    def recovered(self, principal: Principal, sid: str, memo: str = "") -> None:
        """Note a client that is back in its rooms: it follows the same requests, and asks for what it missed."""
        self._watch.came(principal.tenant, sid)
        rooms = self._rooms.get_rooms(sid, NAMESPACE)
        # Earlier versions kept no memo, and their ids stand in rooms as they are.
        request_ids = _request_ids.decode(memo) if memo else filter(None, map(ai_request_of, rooms))
        for request_id in request_ids:
            key = RequestKey(principal.tenant, principal.user_id, request_id)
            if ai_room(*key) in rooms:
                self._watch.follow(sid, key)

    def left(self, principal: Principal, sid: str) -> None:
        """Note that a client is gone."""
        self._watch.gone(principal.tenant, sid)

    def start(self) -> None:
        """Begin to watch over requests."""
        self._watch.begin(self._spawn)

    def close(self) -> None:
        """End what runs here, and stop watching. Takes at most 2 s."""
        for run in tuple(self._runs.values()):
            run.stop(Stopped(Unavailable("This server is shutting down; try again")))
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._runs and time.monotonic() < deadline:
            time.sleep(0.02)
        self._watch.end()
        if self._backend is not None:
            self._backend.close()

    def _work(self, run: Run) -> None:
        try:
            run.work()
        finally:
            if self._runs.get(run.key) is run:
                del self._runs[run.key]

    def _conversation(self, principal: Principal, command: AiRequest) -> tuple[Message, ...]:
        messages: list[Message] = []
        if command.conversation_id is not None:
            for prompt, answer in self._store.history(principal.tenant, principal.user_id, command.conversation_id):
                messages += (Message("user", prompt), Message("assistant", answer))
        return (*messages, Message("user", command.prompt))

    def _now(self) -> str:
        return iso(self._clock_ms())


def _digest(command: AiRequest) -> str:
    return hashlib.sha256(msgspec.json.encode(command)).hexdigest()
