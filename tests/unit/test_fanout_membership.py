"""Rooms of one node against a naive model, and what the library's own tables do in the same places."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import mintflow_realtime.fanout.deliver.membership
from mintflow_realtime.fanout.deliver.membership import ACK_SECONDS, is_sid
from tests import hall

SPACES = ("/", "/a")
ROOMS = ("acme:", "acme:run:r", "other:", "lobby")


class Rooms(RuleBasedStateMachine):
    """The model: for each namespace a dict of sid to (connection, its rooms)."""

    sids = Bundle("sids")

    def __init__(self) -> None:
        super().__init__()
        self.manager = hall.membership().manager
        self.model: dict[str, dict[str, tuple[str, set[str]]]] = {space: {} for space in SPACES}
        self.admitted: set[tuple[str, str]] = set()

    @rule(target=sids, connection=st.sampled_from("ABCDE"), space=st.sampled_from(SPACES), admit=st.booleans())
    def connect(self, connection: str, space: str, admit: bool) -> Any:
        sid = self.manager.pre_connect(connection, space)
        taken = any(connection == other for other, _ in self.model[space].values())
        assert (sid is None) == taken
        if sid is None:
            return (space, "0" * 28)
        self.model[space][sid] = (connection, set())
        assert self.manager.is_pre_connected(sid, space) and not self.manager.is_connected(sid, space)
        if admit:
            self.manager.connect(sid, space)
            self.admitted.add((space, sid))
        return (space, sid)

    @rule(place=sids, room=st.sampled_from(ROOMS))
    def enter(self, place: tuple[str, str], room: str) -> None:
        space, sid = place
        if sid in self.model[space]:
            self.manager.basic_enter_room(sid, space, room)
            self.model[space][sid][1].add(room)
        else:
            with pytest.raises(ValueError):
                self.manager.basic_enter_room(sid, space, room)

    @rule(place=sids, room=st.sampled_from(ROOMS))
    def leave(self, place: tuple[str, str], room: str) -> None:
        space, sid = place
        self.manager.basic_leave_room(sid, space, room)
        if sid in self.model[space]:
            self.model[space][sid][1].discard(room)

    @rule(space=st.sampled_from(SPACES), room=st.sampled_from(ROOMS))
    def close_room(self, space: str, room: str) -> None:
        self.manager.basic_close_room(room, space)
        for _, rooms in self.model[space].values():
            rooms.discard(room)

    @rule(place=sids, other=sids)
    def enter_anothers_own_room(self, place: tuple[str, str], other: tuple[str, str]) -> None:
        if place[1] != other[1]:
            with pytest.raises(ValueError):
                self.manager.basic_enter_room(place[1], place[0], other[1])

    @rule(place=consumes(sids), told_first=st.booleans())
    def disconnect(self, place: tuple[str, str], told_first: bool) -> None:
        space, sid = place
        if told_first:
            found = self.manager.pre_disconnect(sid, space)
            assert found == self.model[space].get(sid, (None,))[0]
            assert not self.manager.is_connected(sid, space)
        self.manager.basic_disconnect(sid, space)
        self.model[space].pop(sid, None)
        self.admitted.discard(place)

    @invariant()
    def agrees(self) -> None:
        for space in SPACES:
            members = self.model[space]
            for sid, (connection, rooms) in members.items():
                assert sorted(self.manager.get_rooms(sid, space)) == sorted({sid, *rooms})
                assert self.manager.room_count(sid, space) == len(rooms)
                assert self.manager.eio_sid_from_sid(sid, space) == connection
                assert self.manager.sid_from_eio_sid(connection, space) == sid
                assert self.manager.is_connected(sid, space) == ((space, sid) in self.admitted)
                assert self.manager.recipients(space, sid) == {sid: connection}
            for asked in (*ROOMS, None, list(ROOMS), ROOMS[:2]):
                wanted = {asked} if isinstance(asked, str) else set(asked or ())
                expected = {
                    sid: connection for sid, (connection, rooms) in members.items() if asked is None or rooms & wanted
                }
                assert self.manager.recipients(space, asked) == expected
                heard = {sid: eio for sid, eio in expected.items() if (space, sid) in self.admitted}
                assert dict(self.manager.get_participants(space, asked)) == heard
        used = {
            space: {room for _, rooms in members.values() for room in rooms} for space, members in self.model.items()
        }
        assert self.manager.rooms.keys() == {space for space in SPACES if self.model[space]}
        for space, table in self.manager.rooms.items():
            assert table.keys() == {None, *used[space]}
        assert self.manager._rooms_of.keys() == {(s, sid) for s in SPACES for sid in self.model[s]}
        assert self.manager._connecting | self.admitted == self.manager._rooms_of.keys()
        assert self.manager._leaving == set()


Rooms.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
test_rooms_agree_with_a_naive_model = Rooms.TestCase


class Counting(dict[Any, Any]):
    """A table of rooms that counts how often it is looked into, a walk over it once for each entry."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        Counting.looks += 1
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        Counting.looks += 1
        return super().get(key, default)

    def __iter__(self) -> Any:
        for key in super().__iter__():
            Counting.looks += 1
            yield key

    def copy(self) -> Any:
        Counting.looks += len(self)
        return super().copy()


def looks_to_leave(manager: Any, clients: int) -> int:
    """Put clients into a room each, and return how often the table is looked into while all of them leave."""
    table = manager.rooms["/"] = Counting()
    sids = []
    for number in range(clients):
        sid = manager.pre_connect(f"e{number}", "/")
        manager.connect(sid, "/")
        manager.basic_enter_room(sid, "/", f"acme:run:{number}")
        sids.append(sid)
    assert manager.rooms["/"] is table
    Counting.looks = 0
    for sid in sids:
        manager.basic_disconnect(sid, "/")
    return Counting.looks


def test_leaving_costs_what_was_joined_however_many_rooms_there_are() -> None:
    """Row 18: the library looks at every room for every client that leaves."""
    few, many = (looks_to_leave(hall.membership().manager, count) for count in (1000, 10_000))
    assert many <= 10 * few <= 100_000
    few, many = (looks_to_leave(hall.stock().manager, count) for count in (100, 1000))
    assert many > 50 * few


def test_a_socket_gets_no_broadcast_before_it_is_admitted() -> None:
    """Row 2: the library broadcasts to sockets whose connect handler is still running."""
    ours, stock = hall.membership(), hall.stock()
    for one, reached in ((ours, []), (stock, ["e1"])):
        sid = one.manager.pre_connect("e1", "/a")
        assert [eio_sid for _, eio_sid in one.manager.get_participants("/a", None)] == reached
        one.manager.emit("e", 1, "/a")
        assert list(one.sent) == reached
        one.manager.connect(sid, "/a")
        one.manager.emit("e", 2, "/a")
        assert one.heard("e1")[-1] == ("e", 2)


def test_a_sids_own_room_cannot_be_entered_from_a_node_that_does_not_hold_it() -> None:
    """Row 6: the library refuses only sids that are connected to the same node."""
    elsewhere, here, stock = hall.membership(), hall.membership(), hall.stock()
    victim = elsewhere.connect("e1", "/a")
    assert is_sid(victim)
    with pytest.raises(ValueError):
        here.manager.enter_room(here.connect("e2", "/a"), "/a", victim)
    with pytest.raises(ValueError):
        here.manager.close_room(victim, "/a")
    intruder = stock.connect("e3", "/a")
    stock.manager.enter_room(intruder, "/a", victim)
    stock.manager.emit("secret", 1, "/a", room=victim)
    assert stock.heard("e3") == [("secret", 1)]


@pytest.mark.parametrize("room", ["acme:", "acme:run:r", "z" * 28, "a" * 27, "", "0123abcd", None, 1, ("0" * 28,)])
def test_what_has_not_the_form_of_a_sid(room: object) -> None:
    assert not is_sid(room)


def test_ones_own_room_is_entered_already() -> None:
    one = hall.membership()
    sid = one.connect("e1", "/a", "lobby")
    one.manager.enter_room(sid, "/a", sid)
    assert one.manager.get_rooms(sid, "/a") == [sid, "lobby"] and one.manager.room_count(sid, "/a") == 1
    one.manager.leave_room(sid, "/a", sid)
    one.manager.emit("e", 1, "/a", room=sid)
    assert one.heard("e1") == [("e", 1)]


def test_each_gets_an_event_once_however_many_of_its_rooms_are_named() -> None:
    one = hall.membership()
    both, left = one.connect("e1", "/a", "x", "y"), one.connect("e2", "/a", "x")
    one.connect("e3", "/a", "z")
    one.manager.emit("e", 1, "/a", room=["x", "y", both, "nobody"], skip_sid=left)
    assert one.sent.keys() == {"e1"} and one.heard("e1") == [("e", 1)]


class Acks:
    """Callbacks of one client, and a clock that can be turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(mintflow_realtime.fanout.deliver.membership.time, "monotonic", lambda: self.now)
        self.hall = hall.membership()
        self.manager = self.hall.manager
        self.sid = self.hall.connect("e1", "/a")
        self.called: list[Any] = []

    def ask(self, name: str) -> int:
        return int(self.manager._generate_ack_id(self.sid, lambda *args: self.called.append((name, args))))

    def answer(self, ack_id: Any) -> None:
        self.manager.trigger_callback(self.sid, ack_id, ["x"])


@pytest.fixture
def acks(monkeypatch: pytest.MonkeyPatch) -> Acks:
    return Acks(monkeypatch)


def test_an_ack_calls_its_callback_once(acks: Acks) -> None:
    first, second = acks.ask("first"), acks.ask("second")
    for ack_id in (second, second, first, 99, 0, -1):
        acks.answer(ack_id)
    assert acks.called == [("second", ("x",)), ("first", ("x",))]
    assert acks.manager._ack_deadlines == {}


def test_callbacks_that_are_never_called_are_freed_with_the_connection(acks: Acks) -> None:
    """Row 21, the first half: the library frees these as well, but only these."""
    for _ in range(3):
        acks.ask("never")
    acks.manager.basic_disconnect(acks.sid, "/a")
    assert acks.manager.callbacks == {} and acks.manager._ack_deadlines == {}


def test_callbacks_that_are_never_called_are_freed_by_time(acks: Acks) -> None:
    """Row 21: a client that stays and never answers. The library keeps all of them."""
    for _ in range(100):
        acks.ask("never")
    acks.now += ACK_SECONDS - 1
    late = acks.ask("late")
    assert acks.manager.forget_unanswered() == 0
    acks.now += 2
    assert acks.manager.forget_unanswered() == 100
    assert acks.manager._ack_deadlines.keys() == {(acks.sid, late)}
    assert not any(one in acks.manager.callbacks[acks.sid] for one in range(1, 101))
    acks.answer(late)
    assert acks.called == [("late", ("x",))]
    stock = hall.stock()
    sid = stock.connect("e1", "/a")
    for _ in range(100):
        stock.manager._generate_ack_id(sid, print)
    assert not hasattr(stock.manager, "forget_unanswered") and len(stock.manager.callbacks[sid]) == 101


def test_a_late_ack_never_calls_the_callback_of_a_later_question(acks: Acks) -> None:
    forgotten = acks.ask("forgotten")
    acks.now += ACK_SECONDS + 1
    acks.manager.forget_unanswered()
    acks.ask("asked since")
    acks.answer(forgotten)
    assert acks.called == []


def test_an_ack_of_a_client_that_is_gone_is_ignored(acks: Acks) -> None:
    ack_id = acks.ask("gone")
    acks.manager.basic_disconnect(acks.sid, "/a")
    acks.answer(ack_id)
    assert acks.called == [] and acks.manager.forget_unanswered() == 0
