"""The service on two nodes, in threads: shutting down, orphans, clients that are gone, and bounds of a node."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mintflow_realtime.ai_backends.echo import EchoBackend
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.ai import AiRequest, AiUnavailable, CancelStream, Options, ResumeStream
from mintflow_realtime.protocol.errors import Conflict, Forbidden, NotFound, RateLimited, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.ai import service as ai
from mintflow_realtime.services.ai import watch as ai_watch
from mintflow_realtime.services.ai.limits import Limits
from mintflow_realtime.services.ai.run import Run
from mintflow_realtime.services.ai.service import Ai
from mintflow_realtime.stores.ai.store import AiStore, RequestKey
from mintflow_realtime.stores.redis.client import RedisClient
from tests.servers import until

ANN = Principal.system("acme")
KEY = RequestKey("acme", "system", "r1")
LONG = "word " * 400


class Rooms:
    """Rooms without sockets; `gone` are sids that nobody is at."""

    def __init__(self) -> None:
        self.rooms: dict[str, set[str]] = {}
        self.sent: list[tuple[str, str, Any]] = []
        self.gone: set[str] = set()

    def enter(self, sid: str, namespace: str, room: str) -> None:
        if sid in self.gone:
            raise ValueError("gone")
        self.rooms.setdefault(sid, set()).add(room)

    begin_history = enter

    def leave(self, sid: str, namespace: str, room: str) -> None:
        self.rooms[sid].discard(room)

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        return [sid, *self.rooms.get(sid, ())]

    def catch_up(self, *args: Any) -> None: ...

    def skip_told(self, *args: Any) -> None: ...

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None:
        self.sent.append((sid, event, payload))


class Thread(threading.Thread):
    def kill(self, *, block: bool) -> None: ...


def spawn(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


class Desk:
    def __init__(
        self, runner: RedisClient, keys: Keys, lease_ms: int = 15_000, pace: float = 0.01, **more: Any
    ) -> None:
        self.rooms = Rooms()
        self.store = AiStore(runner, keys, lease_ms)
        self.publisher = Publisher(runner, keys, Caps())
        self.runner, self.keys = runner, keys
        self.ai = Ai(self.publisher, self.store, self.rooms, EchoBackend(pace), spawn, **more)

    def ask(self, request_id: str = "r1", sid: str = "s1", prompt: str = LONG) -> None:
        self.ai.request(ANN, sid, AiRequest(request_id=request_id, prompt=prompt, stream=True))

    def fields(self, key: RequestKey = KEY) -> dict[str, bytes]:
        return self.store.resume(key, -1, "-").fields

    def ends(self) -> int:
        return int(self.runner.command("XLEN", self.keys.of("acme", "log", "/ai")))

    def look(self) -> None:
        for _ in range(ai_watch.TICKS_A_ROUND):
            self.ai._watch.tick()


@pytest.fixture
def desk(runner: RedisClient, keys: Keys) -> Iterator[Desk]:
    made = Desk(runner, keys)
    yield made
    made.ai.close()
    assert not made.ai._runs


def test_shutting_down_ends_what_runs(desk: Desk) -> None:
    desk.ask()
    until(lambda: desk.fields()["next"] != b"0")
    began = time.monotonic()
    desk.ai.close()
    assert time.monotonic() - began < ai.CLOSE_SECONDS and desk.ends() == 1
    fields = desk.fields()
    assert (fields["status"], fields["retryable"], fields["code"]) == (b"error", b"1", b"unavailable")


def test_an_orphan_is_ended_once_by_those_who_have_clients_of_its_tenant(runner: RedisClient, keys: Keys) -> None:
    dead = Desk(runner, keys, lease_ms=50)
    dead.store.accept(KEY, owner="dead", model="m", stream=True, most=3)
    nodes = [Desk(runner, keys) for _ in range(3)]
    stranger = Desk(runner, keys)
    for number, node in enumerate(nodes):
        node.ai.joined(ANN, f"s{number}")
    stranger.ai.joined(Principal.system("other"), "s9")
    time.sleep(0.1)
    stranger.look()
    assert stranger.ends() == 0
    for node in nodes:
        node.look()
        node.look()
    assert nodes[0].ends() == 1 and nodes[0].fields()["status"] == b"error"


def test_a_living_node_keeps_its_requests(runner: RedisClient, keys: Keys) -> None:
    owner, other = Desk(runner, keys, lease_ms=300), Desk(runner, keys)
    owner.ask()
    other.ai.joined(ANN, "s2")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        owner.look()
        other.look()
        time.sleep(0.02)
    assert owner.ends() == 0 and owner.fields()["status"] == b"running"
    owner.ai.close()
    assert owner.ends() == 1


def test_a_cancellation_reaches_the_node_that_runs_it(runner: RedisClient, keys: Keys) -> None:
    owner, other = Desk(runner, keys), Desk(runner, keys)
    owner.ask()
    other.ai.cancel(ANN, CancelStream(request_id="r1"))
    assert owner.fields()["status"] == b"running"
    owner.ai._watch.tick()
    until(lambda: owner.fields()["status"] == b"cancelled", 5)
    other.ai.cancel(ANN, CancelStream(request_id="r1"))
    assert owner.ends() == 1


def test_without_clients_a_request_is_cancelled(runner: RedisClient, keys: Keys) -> None:
    desk = Desk(runner, keys, limits=Limits(absent_seconds=0.3))
    desk.rooms.gone.add("s1")
    desk.ask()
    until(lambda: desk.look() or desk.fields()["status"] == b"cancelled", 5)
    desk.ask("r2", sid="s2")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        desk.look()
        time.sleep(0.02)
    assert desk.fields(KEY._replace(request_id="r2"))["status"] == b"running"
    desk.ai.left(ANN, "s2")
    until(lambda: desk.look() or desk.fields(KEY._replace(request_id="r2"))["status"] == b"cancelled", 5)


def test_clients_leave_the_rooms_of_what_has_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask(prompt="word")
    until(lambda: desk.fields()["status"] == b"completed")
    desk.ai.resume(ANN, "s2", ResumeStream(request_id="r1"))
    desk.look()
    assert desk.rooms.rooms == {"s1": {"acme:ai:system/r1"}, "s2": {"acme:ai:system/r1"}}
    monkeypatch.setattr(ai_watch, "LINGER_SECONDS", -1.0)
    desk.look()
    assert desk.rooms.rooms == {"s1": set(), "s2": set()}
    watch = desk.ai._watch
    assert not (watch._followers or watch._followed or watch._over)


def test_a_client_that_leaves_while_it_resumes_follows_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask()
    monkeypatch.setattr(desk.rooms, "catch_up", lambda *_: desk.ai.left(ANN, "s2"))
    desk.ai.joined(ANN, "s2")
    desk.ai.resume(ANN, "s2", ResumeStream(request_id="r1"))
    watch = desk.ai._watch
    assert watch._followed == {"s1": {KEY}} and watch._followers == {KEY: {"s1"}}
    # Nor one who asks for what there is not.
    with pytest.raises(NotFound):
        desk.ai.resume(ANN, "s3", ResumeStream(request_id="none"))
    assert watch._followed == {"s1": {KEY}}


def test_orphans_are_found_though_a_nodes_clock_is_slow(runner: RedisClient, keys: Keys) -> None:
    Desk(runner, keys, lease_ms=1).store.accept(KEY, owner="dead", model="m", stream=True, most=3)
    slow = Desk(runner, keys, clock_ms=lambda: 1_000_000)
    slow.ai.joined(ANN, "s1")
    until(lambda: slow.look() or slow.ends(), 5)
    assert slow.fields()["status"] == b"error"


def test_a_request_that_redis_lost_ends(desk: Desk) -> None:
    desk.ask()
    until(lambda: desk.fields()["next"] != b"0")
    desk.runner.command("DEL", desk.keys.of("acme", "ai", "request", "system/r1"))
    until(lambda: desk.ai._watch.tick() or not desk.ai._runs, 5)
    assert desk.ends() == 1 and desk.fields()["status"] == b"error"


def test_what_is_refused_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Principal.system("acme")
    nobody = type(nobody)(**{**{name: getattr(nobody, name) for name in nobody.__slots__}, "permissions": frozenset()})
    with pytest.raises(Forbidden):
        desk.ai.request(nobody, "s1", AiRequest(request_id="r1", prompt="p"))
    with pytest.raises(Forbidden):
        desk.ai.resume(nobody, "s1", ResumeStream(request_id="r1"))
    with pytest.raises(NotFound):
        desk.ai.resume(ANN, "s1", ResumeStream(request_id="none"))
    assert desk.rooms.rooms == {"s1": set()}
    monkeypatch.setattr(ai, "MAX_RUNNING", 0)
    with pytest.raises(Unavailable):
        desk.ask()
    monkeypatch.undo()
    for number in range(3):
        desk.ask(f"r{number}")
    with pytest.raises(RateLimited):
        desk.ask("r9")
    assert "system/r9" not in str(desk.runner.command("KEYS", f"{desk.keys.prefix}:*"))


def test_without_a_backend_the_client_is_told(runner: RedisClient, keys: Keys) -> None:
    rooms = Rooms()
    bare = Ai(Publisher(runner, keys, Caps()), AiStore(runner, keys), rooms, None, spawn)
    with pytest.raises(AiUnavailable) as refused:
        bare.request(ANN, "s1", AiRequest(request_id="r1", prompt="p"))
    assert "AI_BACKEND" in refused.value.message
    ((sid, event, payload),) = rooms.sent
    assert (sid, event, payload.code, payload.retryable) == ("s1", "ai_error", "ai_unavailable", False)
    bare.close()


def test_a_run_never_raises(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_answer", lambda *_: 1 / 0)
    desk.ask()
    until(lambda: not desk.ai._runs)
    assert desk.fields()["code"] == b"internal" and desk.ends() == 1


def test_a_repeated_request_gets_the_first_answer_and_runs_once(desk: Desk) -> None:
    command = AiRequest(request_id="r1", prompt="one two", stream=True, conversation_id="c")
    first = desk.ai.request(ANN, "s1", command)
    assert desk.ai.request(ANN, "s1", command) == first
    # From another connection, which hears of it from now on.
    assert desk.ai.request(ANN, "s2", command) == first
    assert desk.rooms.rooms == {"s1": {"acme:ai:system/r1"}, "s2": {"acme:ai:system/r1"}}
    until(lambda: desk.fields()["status"] == b"completed")
    assert desk.ends() == 1 and desk.rooms.sent == []
    # Once it has ended, who follows it has been told; who doesn't is told now.
    assert desk.ai.request(ANN, "s1", command) == desk.ai.request(ANN, "s3", command) == first
    ((sid, event, payload),) = desk.rooms.sent
    assert (sid, event, payload.status, payload.finish_reason) == ("s3", "ai_stream_end", "completed", "stop")
    assert desk.ends() == 1 and desk.store.history("acme", "system", "c") == [("one two", "one two")]


@pytest.mark.parametrize(
    "change",
    [{"prompt": "p2"}, {"model": "m"}, {"stream": True}, {"options": Options(temperature=1)}, {"conversation_id": "c"}],
)
def test_other_content_under_the_same_id_is_a_conflict(desk: Desk, change: dict[str, Any]) -> None:
    asked = {"request_id": "r1", "prompt": "p"}
    desk.ai.request(ANN, "s1", AiRequest(**asked))
    with pytest.raises(Conflict):
        desk.ai.request(ANN, "s1", AiRequest(**{**asked, **change}))
    desk.ai.request(ANN, "s1", AiRequest(**asked))


def test_a_request_that_an_older_node_took_on_is_in_use(desk: Desk) -> None:
    desk.store.accept(KEY, owner="old", model="m", stream=False, most=3)
    desk.runner.command("HDEL", desk.keys.of("acme", "ai", "request", "system/r1"), "digest")
    with pytest.raises(Conflict):
        desk.ai.request(ANN, "s1", AiRequest(request_id="r1", prompt="p"))


def test_a_repeat_of_a_whole_answer_is_told_it_again(desk: Desk) -> None:
    command = AiRequest(request_id="r1", prompt="one \U0001f389")
    desk.ai.request(ANN, "s1", command)
    until(lambda: desk.fields()["status"] == b"completed")
    desk.ai.request(ANN, "s2", command)
    ((sid, event, payload),) = desk.rooms.sent
    assert (sid, event, payload.response, payload.model) == ("s2", "ai_response", "one \U0001f389", "echo")
    cancelled = AiRequest(request_id="r2", prompt=LONG)
    desk.store.accept(
        KEY._replace(request_id="r2"), owner="n", model="m", stream=False, most=3, digest=ai._digest(cancelled)
    )
    desk.runner.command("HSET", desk.keys.of("acme", "ai", "request", "system/r2"), "status", "cancelled")
    desk.ai.request(ANN, "s2", cancelled)
    sid, event, payload = desk.rooms.sent[-1]
    assert (sid, event, payload.code, payload.retryable) == ("s2", "ai_error", "conflict", False)


def test_what_runs_keeps_its_chunks_however_long_nothing_is_said(desk: Desk) -> None:
    desk.ask()
    until(lambda: desk.fields()["next"] != b"0")
    key = desk.keys.of("acme", "ai", "request", "system/r1:chunks")
    run = desk.ai._runs[KEY]
    desk.runner.command("PEXPIRE", key, 5000)
    desk.store.watch("acme", [(KEY, run.owner, True)])
    assert desk.runner.command("PTTL", key) > 600_000


def test_the_limits_follow_the_settings() -> None:
    assert Limits.of(300, 600) == Limits()
    assert Limits.of(2, 5) == Limits(piece_seconds=2, total_seconds=600, absent_seconds=5)
    assert Limits.of(900, 600).total_seconds == 1800


def test_a_request_whose_answer_was_lost_runs_when_it_is_repeated(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = desk.store.accept

    def lost(*args: Any, **more: Any) -> bool:
        accept(*args, **more)
        raise Unavailable("after it")

    command = AiRequest(request_id="r1", prompt="one two", stream=True)
    with monkeypatch.context() as patch:
        patch.setattr(desk.store, "accept", lost)
        with pytest.raises(Unavailable):
            desk.ai.request(ANN, "s1", command)
    assert desk.fields()["status"] == b"running" and not desk.ai._runs
    assert desk.ai.request(ANN, "s1", command).accepted
    until(lambda: desk.fields()["status"] == b"completed")
    assert desk.ends() == 1
