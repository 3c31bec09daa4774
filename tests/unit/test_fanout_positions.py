"""Clients that recover among others: which offset goes with what they are sent, and when they are told where it is."""

import json
from typing import Any

import gevent
import pytest

import mintflow_realtime.fanout.deliver.positions
from mintflow_realtime.fanout.deliver.positions import LOOK_EVENTS, TOLD_EVENTS, marked
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.protocol.envelope import ORIGIN, Offset
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from tests import hall
from tests.hall import Hall, event

ROOM = "acme:run:r"


class Place:
    """One node; `number` is how far it has delivered the tenant's log in /flows."""

    def __init__(self, node: Hall) -> None:
        self.node, self.manager, self.number = node, node.manager, 0
        self.manager.position = lambda tenant, namespace: Offset("a", self.number) if self.number else ORIGIN
        self.manager.wait_until_passed = lambda *asked: None

    def join(self, eio_sid: str, *rooms: str) -> Session:
        sid = self.manager.pre_connect(eio_sid, "/flows")
        assert sid is not None
        session = Session("acme", "/flows", sid, "pid", "0-0")
        self.manager.follow(session)
        self.manager.connect(sid, "/flows")
        for room in ("acme:", *rooms):
            self.manager.enter(sid, "/flows", room)
        return session

    def deliver(self, *numbers: int, room: str = ROOM, **more: Any) -> None:
        for number in numbers:
            self.number = number
            self.manager.deliver("/flows", event(f"a-{number}", f"e{number}", (room,), **more))

    def volatile(self, room: str = ROOM) -> None:
        mark = f"a-{self.number}" if self.number else "0-0"
        self.manager.deliver("/flows", event("-", "v", (room,))._replace(after=self.number, mark=mark))

    def got(self, eio_sid: str) -> list[str]:
        """Return event and last argument, where there is one beside the payload."""
        found = []
        for text in self.node.sent.get(eio_sid, ()):
            name, *args = json.loads(text[text.index("[") :])
            found.append(f"{name} {args[-1]}" if args and isinstance(args[-1], str) else name)
        return found


@pytest.fixture
def place(runner: RedisClient, keys: Keys) -> Place:
    return Place(hall.ours(runner, "/flows", channel=keys.prefix))


def test_only_who_recovers_gets_an_offset_with_everything(place: Place) -> None:
    session = place.join("e1", ROOM)
    place.node.connect("e2", "/flows", "acme:", ROOM)
    place.deliver(1)
    place.volatile()
    place.deliver(2, room="acme:other")
    place.volatile()
    for sid in (session.sid, place.manager.sid_from_eio_sid("e2", "/flows")):
        place.manager.send_to(sid, "/flows", "told", {"x": 1})
    place.manager.send_position(session)
    assert place.got("e1") == ["e1 a-1", "v a-1", "v a-2", "told a-2", "position a-2"]
    assert place.got("e2") == ["e1", "v", "v", "told"]
    assert place.node.sent["e1"][-1] == '2/flows,["position","a-2"]'


def test_one_encoding_for_all_who_recover_and_one_for_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    real = place.node.server.message
    monkeypatch.setattr(place.node.server, "message", lambda text, *rest: encoded.append(text) or real(text, *rest))
    for number in range(5):
        place.join(f"r{number}", ROOM)
        place.node.connect(f"p{number}", "/flows", ROOM)
    place.deliver(1)
    assert sorted(encoded) == ['2/flows,["e1", null,"a-1"]', '2/flows,["e1", null]']
    encoded.clear()
    place.manager.deliver("/flows", event("a-2", "nobody's", ("acme:nobody",)))
    place.manager.deliver("/elsewhere", event("a-2", "nobody's"))
    assert encoded == []


def test_the_one_who_is_excepted_and_one_who_is_connecting_get_nothing(place: Place) -> None:
    one, other = place.join("e1", ROOM), place.join("e2", ROOM)
    place.manager._connecting.add(("/flows", other.sid))
    place.deliver(1, except_sid=one.sid)
    assert place.node.sent == {}


def test_while_a_history_is_read_the_offset_stays_with_what_was_sent(place: Place) -> None:
    """Else a client that is cut off right then would have gone past events that it never got."""
    session = place.join("e1", ROOM)
    place.deliver(1)
    place.manager.begin_history(session.sid, "/flows", "acme:run:q")
    place.deliver(2)
    place.deliver(3, room="acme:run:q")
    place.manager.send_to(session.sid, "/flows", "meanwhile", None)
    assert place.got("e1") == ["e1 a-1", "meanwhile a-1"]
    place.manager.catch_up(session.sid, "acme", "/flows", 3)
    place.deliver(4)
    place.manager.send_to(session.sid, "/flows", "answer", None)
    place.manager.send_positions()
    place.manager.end_history(session.sid, "/flows")
    place.manager.send_to(session.sid, "/flows", "after", None)
    assert place.got("e1")[2:] == ["e2 a-2", "answer a-3", "e4 a-4", "after a-4"]


def test_rooms_are_noted_with_where_they_begin(place: Place) -> None:
    session = place.join("e1")
    assert session.rooms == {"acme:": "0-0"} and place.manager.unsaved == {session}
    place.number = 7
    place.manager.enter(session.sid, "/flows", ROOM)
    place.manager.enter(session.sid, "/flows", "acme:")
    place.number = 9
    place.manager.begin_history(session.sid, "/flows", "acme:run:q")
    place.manager.catch_up(session.sid, "acme", "/flows", 8, leaving=["acme:"])
    assert session.rooms == {ROOM: "a-7", "acme:run:q": "a-8"}
    session.changed.clear()
    place.manager.leave(session.sid, "/flows", ROOM)
    place.manager.leave(session.sid, "/flows", "acme:run:never")
    assert session.rooms == {"acme:run:q": "a-8"} and session.changed == {ROOM}
    place.manager.forget(session.sid, "/flows")
    assert place.manager.sessions() == [] and place.manager.unsaved == set() and place.manager._recovering == {}
    assert session.rooms == {"acme:run:q": "a-8"}, "what its next connection goes on with"


def test_who_hears_nothing_is_told_after_a_minute_or_a_thousand_events(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, busy = place.join("e1"), place.join("e2", ROOM)
    clock = [1000.0]
    monkeypatch.setattr(mintflow_realtime.fanout.deliver.positions.time, "monotonic", lambda: clock[0])
    place.manager.send_position(session)
    place.manager.send_position(busy)
    clock[0] += 100
    place.manager.send_positions()
    assert place.got("e1") == ["position 0-0"], "it is not behind"
    place.deliver(1)
    place.manager.send_positions()
    assert place.got("e1")[1:] == ["position a-1"]
    clock[0] += 50
    place.deliver(2)
    place.manager.send_positions()
    assert len(place.got("e1")) == 2
    behind = 0
    for number in range(3, 3 * TOLD_EVENTS):
        place.deliver(number)
        if number % LOOK_EVENTS == 0:
            gevent.sleep(0)
        last = int(place.got("e1")[-1].rpartition("-")[2])
        behind = max(behind, number - last)
    assert TOLD_EVENTS / 2 < behind <= TOLD_EVENTS
    assert not [told for told in place.got("e2")[1:] if told.startswith("position")]


def test_arguments_are_marked_as_text() -> None:
    assert marked('["e",{"a":"]"}]', "a-1") == '["e",{"a":"]"},"a-1"]'
    assert json.loads(marked('["e"]', "0-0")) == ["e", "0-0"]
