"""Replay on a real log: where it goes on, where it can't, and that nothing falls between it and what is live."""

import random
from collections.abc import Callable
from typing import Any

import pytest

import mintflow_realtime.fanout.publish.publisher
import mintflow_realtime.fanout.recover.replay
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.fanout.recover.replay import Replay
from mintflow_realtime.fanout.recover.sessions import NotRecovered
from mintflow_realtime.fanout.rooms import tenant_room, workspace_audience, workspace_room
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.fanout.subscribe.order import Order
from mintflow_realtime.protocol.envelope import ORIGIN, Event, Header, Offset, Policy, parse_offset
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.stores.redis.client import RedisClient
from tests import hall

ROOM = "acme:run:r"
NAMESPACE = "/n"


class Scene:
    """One node, its log, and a client that is connecting again; `hear` lets the node deliver some of the log."""

    def __init__(self, runner: RedisClient, keys: Keys) -> None:
        self.runner, self.keys = runner, keys
        self.hall = hall.ours(runner, NAMESPACE, channel=keys.prefix)
        self.manager = self.hall.manager
        self.manager.position = lambda tenant, namespace: self.position
        self.publisher = Publisher(runner, keys, Caps())
        self.position = ORIGIN
        self.breaks = 0
        self.recovery = Replay(self.publisher, _Channels(self), self.manager)
        self.hall.server.environ["e1"] = {}
        self.published = 0

    def publish(self, count: int = 1, *rooms: str, **more: Any) -> None:
        for _ in range(count):
            self.published += 1
            header = Header(rooms or (ROOM,), **more)
            self.publisher.publish("acme", NAMESPACE, [Event(header, (dumps(["e", self.published]),))])

    def roll(self) -> None:
        """Let the next event begin a new epoch, as after a restart or a failover."""
        self.runner.command("HSET", self.publisher.head_key("acme", NAMESPACE), "run_id", "another")

    def head(self) -> Offset:
        head, _ = self.publisher.head("acme", NAMESPACE)
        return head or ORIGIN

    def hear(self, most: int | None = None) -> None:
        page = self.publisher.page("acme", NAMESPACE, self.position.number + 1)
        for event in page.events[:most]:
            assert event.offset is not None
            self.position = event.offset
            self.manager.deliver(NAMESPACE, event)

    def wait_until_passed(self, tenant: str, namespace: str, number: int) -> None:
        while (before := self.position).number < number:
            self.hear(1)
            if self.position == before:
                raise Unavailable("This node is behind")

    def session(self, start: str = "0-0", **rooms: str) -> Session:
        session = Session("acme", NAMESPACE, "f" * 28, "pid", start, rooms=rooms or {ROOM: "0-0"})
        sid = self.manager.pre_connect("e1", NAMESPACE)
        assert sid is not None
        self.manager.rename(sid, NAMESPACE, session.sid)
        self.manager.follow(session)
        return session

    def connect(self, session: Session, shown: Offset, instead: Any = None) -> None:
        """Do what the gate and the transport do."""
        missed = self.recovery.missed(session, shown)
        self.recovery.replay(session, missed, instead)
        self.manager.connect(session.sid, NAMESPACE)

    @property
    def numbers(self) -> list[Any]:
        return [payload for _, payload in self.hall.heard("e1")]

    @property
    def marks(self) -> list[str]:
        return [text.rsplit('"', 2)[1] for text in self.hall.sent.get("e1", [])]


class _Channels:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def position(self, tenant: str, namespace: str) -> Offset:
        return self.scene.position

    def breaks(self, tenant: str, namespace: str) -> int:
        return self.scene.breaks

    def wait_until_passed(self, tenant: str, namespace: str, number: int) -> None:
        self.scene.wait_until_passed(tenant, namespace, number)


@pytest.fixture
def scene(runner: RedisClient, keys: Keys) -> Scene:
    return Scene(runner, keys)


def test_what_was_missed_then_what_is_live(scene: Scene) -> None:
    scene.publish(5)
    scene.hear(4)
    session = scene.session()
    scene.connect(session, Offset(scene.head().epoch, 2))
    assert scene.numbers == [3, 4]
    scene.hear()
    scene.publish()
    scene.hear()
    assert scene.numbers == [3, 4, 5, 6]
    assert scene.marks == [f"{scene.head().epoch}-{number}" for number in (3, 4, 5, 6)]
    assert scene.manager._held == {} and scene.manager.is_connected(session.sid, NAMESPACE)


def test_a_node_that_is_behind_the_client_catches_up_first(scene: Scene) -> None:
    scene.publish(4)
    scene.hear(1)
    scene.connect(scene.session(), Offset(scene.head().epoch, 3))
    assert scene.position.number >= 3
    scene.hear()
    assert scene.numbers == [4]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_meanwhile_each_comes_once_and_in_order(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Events are published, and heard by this node, before and after every read of the log; pages are tiny."""
    rng = random.Random(seed)
    monkeypatch.setattr(mintflow_realtime.fanout.publish.publisher, "PAGE_BYTES", 200)
    real, busy = scene.publisher.page, [rng.randrange(3, 12)]

    def something() -> None:
        if busy[0] > 0:
            busy[0] -= 1
            scene.publish(rng.randrange(4))
            if rng.random() < 0.3:
                scene.publish(1, "acme:run:other")
            if rng.random() < 0.1:
                scene.roll()
            most = rng.randrange(5)
            page = real("acme", NAMESPACE, scene.position.number + 1)
            for event in page.events[:most]:
                assert event.offset is not None
                scene.position = event.offset
                scene.manager.deliver(NAMESPACE, event)

    def page(*args: Any) -> Any:
        something()
        found = real(*args)
        something()
        return found

    scene.publish(rng.randrange(1, 20))
    scene.hear(rng.randrange(6))
    shown = rng.randrange(min(5, scene.head().number) + 1)
    first = real("acme", NAMESPACE, shown).events[0].offset if shown else ORIGIN
    monkeypatch.setattr(scene.publisher, "page", page)
    session = scene.session()
    scene.connect(session, first)
    monkeypatch.setattr(scene.publisher, "page", real)
    scene.publish(2)
    while scene.position.number < scene.head().number:
        scene.hear()
    log = []
    number = shown + 1
    while number <= scene.head().number:
        log += [event for event in real("acme", NAMESPACE, number).events]
        number = log[-1].offset.number + 1
    expected = [event for event in log if ROOM in event.header.rooms]
    assert scene.marks == [str(event.offset) for event in expected]
    assert all(f'"{mark}"' in text for mark, text in zip(scene.marks, scene.hall.sent["e1"], strict=True))


def test_the_client_is_waited_for_and_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.fanout.publish.publisher, "PAGE_BYTES", 200)
    monkeypatch.setattr(mintflow_realtime.fanout.recover.replay, "_LOOK_SECONDS", 0.001)
    scene.publish(20)
    scene.wait_until_passed("acme", NAMESPACE, 20)
    loads = [0.9, 0.6, 0.4]
    asked: list[float] = []

    def backlog(eio_sid: str) -> float:
        asked.append(loads[min(len(asked), 2)])
        return asked[-1]

    monkeypatch.setattr(scene.hall.server, "backlog", backlog)
    scene.connect(scene.session(), ORIGIN)
    assert scene.numbers == list(range(1, 21)) and asked[:3] == loads and len(asked) > 4
    scene.manager.forget("f" * 28, NAMESPACE)
    monkeypatch.setattr(mintflow_realtime.fanout.recover.replay, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(scene.hall.server, "backlog", lambda eio_sid: 1.0)
    with pytest.raises(Unavailable):
        scene.connect(scene.session(), ORIGIN)
    scene.manager.forget("f" * 28, NAMESPACE)
    monkeypatch.setattr(scene.hall.server, "backlog", lambda eio_sid: 0.0)
    session = scene.session()
    missed = scene.recovery.missed(session, ORIGIN)
    del scene.hall.server.environ["e1"]
    with pytest.raises(Unavailable):
        scene.recovery.replay(session, missed, lambda room, arguments: ("", 0))


def trim(scene: Scene, keep: int) -> None:
    scene.runner.command("XTRIM", scene.keys.of("acme", "log", NAMESPACE), "MAXLEN", keep)


def lose(scene: Scene) -> None:
    scene.runner.command("DEL", scene.publisher.head_key("acme", NAMESPACE))
    scene.published = 0


CASES: list[tuple[str, Callable[[Scene], None], str, str, Any]] = [
    # what happened, how, session's start, offset shown (E: the first epoch, F: the last), what comes or the reason
    ("nothing", lambda s: s.publish(3), "E-0", "E-3", []),
    ("some", lambda s: s.publish(3), "E-0", "E-1", [2, 3]),
    ("all", lambda s: s.publish(3), "0-0", "0-0", [1, 2, 3]),
    ("before the start", lambda s: s.publish(3), "E-2", "E-1", [3]),
    ("never one, nothing yet", lambda s: None, "0-0", "0-0", []),
    ("ahead of the log", lambda s: s.publish(3), "E-0", "E-4", "epoch"),
    ("trimmed away", lambda s: (s.publish(5), trim(s, 2)), "E-0", "E-2", "gap"),
    ("trimmed up to it", lambda s: (s.publish(5), trim(s, 2)), "E-0", "E-3", [4, 5]),
    ("gone with the log", lambda s: (s.publish(5), trim(s, 0)), "E-0", "E-3", "gap"),
    ("the log is gone, nothing missed", lambda s: (s.publish(5), trim(s, 0)), "E-0", "E-5", []),
    ("all of it trimmed, never one", lambda s: (s.publish(5), trim(s, 2)), "0-0", "0-0", "gap"),
    ("a new epoch goes on", lambda s: (s.publish(3), s.roll(), s.publish(2)), "E-0", "E-2", [3, 4, 5]),
    ("right at its end", lambda s: (s.publish(3), s.roll(), s.publish(2)), "E-0", "E-3", [4, 5]),
    ("past its end", lambda s: (s.publish(3), s.roll(), s.publish(2)), "E-0", "E-4", "epoch"),
    ("in the new one", lambda s: (s.publish(3), s.roll(), s.publish(2)), "E-0", "F-4", [5]),
    ("a number of the old one", lambda s: (s.publish(3), s.roll(), s.publish(2)), "0-0", "F-2", "epoch"),
    ("an old offset, a newer start", lambda s: (s.publish(3), s.roll(), s.publish(2)), "F-4", "E-1", [5]),
    (
        "two epochs on, the event still there",
        lambda s: (s.publish(3), s.roll(), s.publish(), s.roll(), s.publish()),
        "E-0",
        "E-2",
        [3, 4, 5],
    ),
    (
        "two epochs on, the event gone",
        lambda s: (s.publish(3), s.roll(), s.publish(), s.roll(), s.publish(), trim(s, 2)),
        "E-0",
        "E-3",
        "epoch",
    ),
    ("all was lost", lambda s: (s.publish(3), lose(s), s.publish(5)), "E-0", "E-3", "epoch"),
    ("all was lost, nothing since", lambda s: (s.publish(3), lose(s)), "E-0", "E-3", "epoch"),
    ("a lost session, one from after", lambda s: (s.publish(3), lose(s), s.publish(5)), "", "F-3", [4, 5]),
    ("a lost session, one from before", lambda s: (s.publish(3), lose(s), s.publish(5)), "", "E-2", "epoch"),
    ("a lost session, never one", lambda s: (s.publish(3), lose(s), s.publish(5)), "", "0-0", "epoch"),
    ("a stranger's epoch", lambda s: s.publish(3), "0-0", "strange-1", "epoch"),
]


@pytest.mark.parametrize(
    ("happened", "start", "shown", "outcome"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_where_it_goes_on_and_where_it_cannot(
    scene: Scene, happened: Callable[[Scene], None], start: str, shown: str, outcome: Any
) -> None:
    epochs: list[str] = []
    publish = scene.publish

    def noting(*args: Any, **more: Any) -> None:
        publish(*args, **more)
        epochs.append(scene.head().epoch)

    scene.publish = noting  # type: ignore[method-assign]
    happened(scene)
    first, last = (epochs or ["x"])[0], (epochs or ["x"])[-1]

    def real(text: str) -> str:
        return text.replace("E-", f"{first}-").replace("F-", f"{last}-")

    scene.position = scene.head()
    session = scene.session(real(start))
    offset = parse_offset(real(shown))
    assert offset is not None
    if isinstance(outcome, str):
        with pytest.raises(NotRecovered) as refused:
            scene.connect(session, offset)
        assert refused.value.reason == outcome and scene.numbers == []
    else:
        scene.connect(session, offset)
        assert scene.numbers == outcome


def test_a_log_that_is_trimmed_in_the_middle_is_tried_anew(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mintflow_realtime.fanout.publish.publisher, "PAGE_BYTES", 200)
    scene.publish(20)
    scene.position = scene.head()
    session = scene.session()
    missed = scene.recovery.missed(session, ORIGIN)
    trim(scene, 2)
    with pytest.raises(Unavailable):
        scene.recovery.replay(session, missed, lambda room, arguments: ("", 0))


@pytest.mark.parametrize("seed", range(60))
def test_a_log_that_begins_anew_meanwhile_loses_nothing_untold(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Redis forgets everything before or after any read of the log, and this node hears of it then or later."""
    rng = random.Random(seed)
    monkeypatch.setattr(mintflow_realtime.fanout.publish.publisher, "PAGE_BYTES", rng.choice([200, 10**6]))
    tenant = tenant_room("acme")
    old = rng.randrange(1, 12)
    scene.publish(old, tenant)
    scene.position = scene.head()
    order = Order(position=scene.position, aligned=True, _known=True)
    real, reads, forgets_at = scene.publisher.page, 0, rng.randrange(8)

    def hear(most: int | None = None) -> None:
        begun = order.position is not None and order.position.epoch == scene.head().epoch
        missed = real("acme", NAMESPACE, order.position.number + 1 if begun and order.position else 1).events
        for event in missed[:most]:
            for announcement in order.accept(event):
                if order.lost:
                    scene.breaks += 1
                    scene.manager.tell_lost("acme", NAMESPACE, order.lost)
                    order.lost = None
                assert order.position is not None
                scene.position = order.position
                scene.manager.deliver(NAMESPACE, announcement)

    def something() -> None:
        nonlocal reads
        reads += 1
        if reads == forgets_at:
            log = scene.keys.of("acme", "log", NAMESPACE)
            scene.runner.command("DEL", scene.publisher.head_key("acme", NAMESPACE), log)
            scene.publish(rng.randrange(2 * old + 2), tenant)
            hear(rng.randrange(2 * old + 3))

    def page(*args: Any) -> Any:
        something()
        found = real(*args)
        something()
        return found

    shown = rng.randrange(old + 1)
    first = real("acme", NAMESPACE, shown).events[0].offset if shown else ORIGIN
    session = scene.session(**{tenant: "0-0"})
    monkeypatch.setattr(scene, "hear", hear)
    monkeypatch.setattr(scene.publisher, "page", page)
    try:
        scene.connect(session, first)
    except (NotRecovered, Unavailable):
        assert reads >= forgets_at
        return
    monkeypatch.setattr(scene.publisher, "page", real)
    scene.publish(2, tenant)
    for _ in range(100):
        hear()
    heard = [payload for name, payload in scene.hall.heard("e1") if name == "e"]
    told = any(name == "resync" for name, _ in scene.hall.heard("e1"))
    assert told or heard == list(range(shown + 1, scene.published + 1))
    assert heard == sorted(set(heard))


def test_rooms_since_they_were_entered_and_the_client_s_own_events(scene: Scene) -> None:
    scene.publish(2, "acme:a")
    scene.publish(1, "acme:a", "acme:b")
    scene.publish(1, "acme:a", except_sid="f" * 28)
    scene.publish(1, "acme:c")
    scene.publish(1, "acme:b", "acme:c")
    epoch = scene.head().epoch
    scene.position = scene.head()
    scene.connect(scene.session(**{"acme:a": f"{epoch}-1", "acme:b": f"{epoch}-3"}), ORIGIN)
    assert scene.numbers == [2, 3, 6]
    assert scene.manager._rooms_of[NAMESPACE, "f" * 28] == {"acme:a", "acme:b"}


def test_a_room_entered_in_an_earlier_or_a_later_epoch(scene: Scene) -> None:
    scene.publish(2, "acme:a", "acme:b")
    old = scene.head().epoch
    scene.roll()
    scene.publish(2, "acme:a")
    scene.publish(1, "acme:b")
    scene.position = scene.head()
    scene.connect(scene.session(**{"acme:a": f"{old}-2", "acme:b": f"{scene.head().epoch}-4"}), ORIGIN)
    assert scene.numbers == [3, 4, 5]


def test_updates_of_a_workspace_come_as_its_state_once_for_who_hears_states(scene: Scene) -> None:
    states, deltas = workspace_room("acme", "w", deltas=False), workspace_room("acme", "w", deltas=True)
    scene.publish(3, deltas)
    scene.publish(1, *workspace_audience("acme", "w"))
    scene.publish(1, workspace_room("acme", "unseen", deltas=True))
    scene.position = scene.head()
    asked: list[tuple[str, str]] = []

    def volatile(room: str, text: str) -> None:
        header = Header((room,), Policy.LATEST_ONLY, "w")
        here = scene.position
        event = hall.event("-", text, (room,))._replace(header=header, after=here.number, mark=f"mark-{text}")
        scene.manager.deliver(NAMESPACE, event)

    def instead(room: str, arguments: str) -> tuple[str, int]:
        asked.append((room, arguments))
        # Meanwhile two more updates; the state is as of the first of them.
        volatile(states, "told")
        scene.publish(1, deltas)
        number = scene.head().number
        scene.hear()
        volatile(states, "newer")
        scene.publish(1, deltas)
        scene.hear()
        return '["state",8]', number

    session = scene.session(**{states: "0-0"})
    scene.connect(session, ORIGIN, instead)
    assert asked == [(states, '["e",3]')]
    assert [name for name, _ in scene.hall.heard("e1")] == ["e", "state", "newer"]
    assert scene.marks == [f"{scene.head().epoch}-4", f"{scene.head().epoch}-5", "mark-newer"]
