"""The client manager against a real Redis: who gets what, once, and what is refused, dropped or kept back."""

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import redis
import socketio

from mintflow_realtime.fanout.deliver.history_then_live import MAX_HELD
from mintflow_realtime.fanout.deliver.manager import MAX_EARLY
from mintflow_realtime.protocol.errors import TooLarge, Unavailable
from mintflow_realtime.protocol.wire_json import dumps
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests import hall
from tests.hall import Hall, event
from tests.redis_fixture import PrivateRedis

FEED = "acme:feed://debug"
CLOSED = "redis://127.0.0.1:1/0"


@pytest.fixture
def node(runner: RedisClient, keys: Any) -> Hall:
    return hall.ours(runner, "/logs", "/flows", channel=keys.prefix)


class Outside:
    """The library's channel, as another node or a write-only manager elsewhere sees it."""

    def __init__(self, client: "redis.Redis", node: Hall) -> None:
        self.node, self.channel = node, node.manager.channel
        self.pubsub = client.pubsub()
        self.pubsub.subscribe(self.channel)
        assert self.pubsub.get_message(timeout=5)["type"] == "subscribe"

    def published(self) -> list[dict[str, Any]]:
        found = []
        while message := self.pubsub.get_message(timeout=0.05):
            found.append(json.loads(message["data"]))
        return found

    def come_back(self) -> int:
        """Let the node hear what was published; return how many messages that were."""
        messages = self.published()
        for message in messages:
            self.node.manager.heard_outside(dumps(message).encode())
        gevent.sleep(0.01)
        return len(messages)


@pytest.fixture
def outside(shared_redis: PrivateRedis, node: Hall) -> Iterator[Outside]:
    with shared_redis.client() as client:
        found = Outside(client, node)
        yield found
        found.pubsub.close()


# What is published with a number


def test_an_event_reaches_everyone_in_any_of_its_rooms_once_but_the_one_who_is_excepted(node: Hall) -> None:
    node.connect("e1", "/flows", "acme:", "acme:run:r")
    node.connect("e2", "/flows", "acme:run:r")
    writer = node.connect("e3", "/flows", "acme:")
    node.connect("e4", "/flows", "other:")
    node.connect("e5", "/logs", "acme:")
    node.manager.deliver("/flows", event("a-1", "x", ["acme:", "acme:run:r"], except_sid=writer, payload=[]))
    assert node.sent == {"e1": ['2/flows,["x", []]'], "e2": ['2/flows,["x", []]']}


def test_the_root_namespace_has_no_prefix(node: Hall) -> None:
    node.connect("e1", "/", "acme:")
    node.manager.deliver("/", event("a-1", "x"))
    node.manager.send_to(node.manager.sid_from_eio_sid("e1", "/"), "/", "y", {"z": 1})
    assert node.sent["e1"] == ['2["x", null]', '2["y",{"z":1}]']


def test_a_message_to_one_who_is_gone_is_nothing(node: Hall) -> None:
    node.manager.send_to("0" * 28, "/logs", "x", None)
    node.manager.end_history("0" * 28, "/logs")
    node.manager.wait_until_passed = lambda *asked: None
    node.manager.catch_up("0" * 28, "acme", "/logs", 5)
    node.manager.leave("0" * 28, "/logs", FEED)
    with pytest.raises(ValueError):
        node.manager.enter("0" * 28, "/logs", FEED)
    with pytest.raises(ValueError):
        node.manager.begin_history("0" * 28, "/logs", FEED)
    assert node.sent == {} and node.manager._held == {}


class Reader:
    """A client of /logs whose history is being read: `deliver(3)` is event 3 of the feed as this node hears it."""

    def __init__(self, node: Hall) -> None:
        self.node, self.manager = node, node.manager
        self.sid = node.connect("e1", "/logs", "acme:")

    def deliver(self, *numbers: int, rooms: tuple[str, ...] = (FEED,), epoch: str = "a") -> "Reader":
        for number in numbers:
            self.manager.deliver("/logs", event(f"{epoch}-{number}", f"e{number}", rooms))
        return self

    def volatile(self, after: int) -> "Reader":
        """Hear a volatile event after number `after`."""
        self.manager.deliver("/logs", event("-", "volatile", (FEED,))._replace(after=after))
        return self

    def hold(self, room: str = FEED) -> "Reader":
        self.manager.begin_history(self.sid, "/logs", room)
        return self

    def answer(self, history_end: int | None = None, *behind: int) -> "Reader":
        """Answer with a history up to `history_end`; `behind` are the events that the node has yet to hear of it."""
        if history_end is not None:
            self.manager.wait_until_passed = lambda *asked: [asked, self.deliver(*behind)][:0]
            self.manager.catch_up(self.sid, "acme", "/logs", history_end)
        self.manager.send_to(self.sid, "/logs", "answer", None)
        self.manager.end_history(self.sid, "/logs")
        return self

    @property
    def heard(self) -> list[str]:
        return [name for name, _ in self.node.heard("e1")]


@pytest.fixture
def reader(node: Hall) -> Reader:
    return Reader(node)


def test_what_comes_while_the_history_is_read_follows_the_answer(reader: Reader) -> None:
    """The node is ahead of the history: 4 and 5 are newer than what was read."""
    reader.hold().deliver(3, 4, 5).answer(3).deliver(6)
    assert reader.heard == ["answer", "e4", "e5", "e6"] and reader.manager._held == {}


def test_what_the_history_told_is_not_told_again(reader: Reader) -> None:
    """The node is behind the history: it has yet to hear 3 to 5, and the answer waits for them."""
    reader.hold().answer(5, 3, 4, 5).deliver(6)
    assert reader.heard == ["answer", "e6"] and reader.manager._held == {}


def test_volatile_events_go_with_the_number_that_follows(reader: Reader) -> None:
    reader.hold().deliver(3).volatile(3).deliver(4).volatile(4).answer(4).deliver(5)
    assert reader.heard == ["answer", "volatile", "e5"] and reader.manager._held == {}


@pytest.mark.parametrize("ahead", range(7))
def test_history_then_live_has_no_gap_and_no_duplicate_wherever_the_node_stands(reader: Reader, ahead: int) -> None:
    """The history ends at 3; of 1 to 6 the node hears `ahead` before, what lacks to 3, then the rest."""
    reader.hold().deliver(*range(1, ahead + 1)).answer(3, *range(ahead + 1, 4)).deliver(*range(max(ahead + 1, 4), 7))
    assert reader.heard == ["answer", "e4", "e5", "e6"]


def test_an_empty_history_holds_nothing_back(reader: Reader) -> None:
    reader.hold().deliver(1).answer(0).deliver(2)
    assert reader.heard == ["answer", "e1", "e2"] and reader.manager._held == {}


def test_a_history_that_could_not_be_read_holds_nothing_back(reader: Reader) -> None:
    reader.hold().deliver(1).answer(None)
    assert reader.heard == ["answer", "e1"] and reader.manager._held == {}


def test_events_of_other_rooms_are_not_told_by_the_history(reader: Reader) -> None:
    """They come before the answer, which is of a later moment."""
    reader.hold().deliver(3, rooms=("acme:",)).deliver(4, rooms=("acme:", FEED)).answer(5).deliver(6)
    assert reader.heard == ["e3", "e4", "answer", "e6"] and reader.manager._held == {}


def test_a_client_that_was_in_the_room_loses_nothing_by_a_history_of_it(reader: Reader) -> None:
    reader.manager.enter(reader.sid, "/logs", FEED)
    reader.hold().deliver(3, 4).answer(3).deliver(5)
    assert reader.heard == ["e3", "answer", "e4", "e5"]


def test_a_feed_that_is_left_goes_on_up_to_the_history(reader: Reader) -> None:
    reader.manager.enter(reader.sid, "/logs", "acme:feed:old")
    reader.hold().deliver(3, 4, rooms=("acme:feed:old", FEED)).deliver(5, rooms=("acme:feed:old",))
    reader.manager.wait_until_passed = lambda *asked: None
    reader.manager.catch_up(reader.sid, "acme", "/logs", 3, leaving=["acme:feed:old"])
    reader.deliver(6, rooms=("acme:feed:old",)).answer().deliver(7)
    assert reader.heard == ["e3", "answer", "e4", "e7"]


def test_a_second_release_does_nothing(reader: Reader) -> None:
    reader.hold().deliver(6).answer(5)
    reader.manager.end_history(reader.sid, "/logs")
    assert reader.heard == ["answer", "e6"]


def test_a_client_that_leaves_takes_its_hold_along(reader: Reader) -> None:
    reader.hold().deliver(1)
    reader.manager.disconnect(reader.sid, "/logs", ignore_queue=True)
    reader.manager.end_history(reader.sid, "/logs")
    assert reader.manager._held == {} and reader.heard == [] and reader.manager.rooms == {}


def test_more_than_can_wait_is_told_as_a_gap(reader: Reader) -> None:
    reader.hold().deliver(*range(1, MAX_HELD + 11)).answer(0)
    assert reader.heard == ["answer", *(f"e{number}" for number in range(1, MAX_HELD + 1)), "resync"]
    assert reader.manager._held == {}


def test_two_histories_in_a_row_tell_nothing_twice(reader: Reader) -> None:
    """Two runs are followed at once while this node is behind: neither is told twice of what its snapshot told."""
    reader.hold("acme:run:1").deliver(4, rooms=("acme:run:1",)).answer(5)
    reader.hold("acme:run:2").deliver(6, rooms=("acme:run:2",)).answer(6).deliver(7, rooms=("acme:run:1",))
    assert reader.heard == ["answer", "answer", "e7"]


def test_a_log_lost_while_the_history_is_read_is_told_too(reader: Reader) -> None:
    """What was read belongs to the old numbering: it says nothing of the new one's events."""
    reader.hold()
    reader.manager.tell_lost("acme", "/logs", "epoch")
    reader.deliver(1, epoch="b").answer(100).deliver(2, 3, epoch="b")
    assert reader.manager._held == {}
    assert [name for name in reader.heard if name not in ("answer", "resync")] == ["e1", "e2", "e3"]


def test_only_a_tenants_clients_are_told_of_its_loss(node: Hall) -> None:
    node.connect("e1", "/logs", "acme:")
    node.connect("e2", "/logs", "other:")
    node.connect("e3", "/flows", "acme:")
    node.manager.tell_lost("acme", "/logs", "gap")
    node.manager.tell_lost("nobody", "/logs", "gap")
    assert {eio_sid: node.heard(eio_sid) for eio_sid in node.sent} == {"e1": [("resync", {"reason": "gap"})]}


# What the library emits


def test_an_emit_reaches_the_clients_here_when_it_comes_back(node: Hall, outside: Outside) -> None:
    node.connect("e1", "/logs", "acme:")
    node.server.emit("e", {"n": []}, namespace="/logs", to="acme:")
    assert node.sent == {}
    assert outside.come_back() == 1
    assert node.heard("e1") == [("e", {"n": []})]


@pytest.mark.parametrize("data", [None, 1, [], [1, 2], ("a", "b"), {"a": [{}]}, "text", ()])
def test_what_is_emitted_arrives_as_the_library_sends_it(node: Hall, outside: Outside, data: Any) -> None:
    node.connect("e1", "/mine", "lobby")
    alone = hall.stock()
    alone.connect("e1", "/mine", "lobby")
    for one in (node, alone):
        one.server.emit("e", data, namespace="/mine", to="lobby")
    outside.come_back()
    assert [json.loads(text[7:]) for text in node.sent["e1"]] == [json.loads(text[7:]) for text in alone.sent["e1"]]


def test_bytes_arrive_too(node: Hall, outside: Outside) -> None:
    node.connect("e1", "/mine", "lobby")
    node.server.emit("e", {"raw": b"\x00\xff"}, namespace="/mine", to="lobby")
    outside.come_back()
    assert node.sent["e1"][0].startswith("51-/mine,") and node.sent["e1"][1] == b"\x00\xff"


def test_an_emit_to_a_client_of_this_node_is_sent_at_once_and_nowhere_else(node: Hall, outside: Outside) -> None:
    sid = node.connect("e1", "/logs")
    node.server.emit("e", 1, namespace="/logs", to=sid)
    assert node.heard("e1") == [("e", 1)] and outside.published() == []


def test_an_emit_to_a_client_of_another_node_goes_there(node: Hall, outside: Outside) -> None:
    node.server.emit("e", 1, namespace="/logs", to="0123abcd" + "x" * 20)
    (message,) = outside.published()
    assert (message["method"], message["room"], message["host_id"]) == (
        "emit",
        "0123abcd" + "x" * 20,
        node.manager.host_id,
    )


@pytest.mark.parametrize("room", [None, "lobby", "", ["acme:", "lobby"], [], [None], 1])
def test_an_emit_on_a_tenants_namespace_needs_a_tenants_room(node: Hall, outside: Outside, room: Any) -> None:
    node.connect("e1", "/logs", "acme:")
    with pytest.raises(ValueError):
        node.server.emit("e", 1, namespace="/logs", to=room)
    node.manager.heard_outside(
        dumps(
            {"method": "emit", "event": "e", "data": [1], "namespace": "/logs", "room": room, "host_id": "x"}
        ).encode()
    )
    assert node.sent == {} and outside.published() == [] and node.manager.dropped == {"unaddressed": 1}


def test_an_emit_that_nodes_would_drop_is_refused_at_the_call(node: Hall, outside: Outside) -> None:
    node.connect("e1", "/mine")
    with pytest.raises(TooLarge, match="2000000 bytes"):
        node.manager.emit("e", "x" * 2_000_000, "/mine", room="r")
    assert outside.published() == []
    node.manager.emit("e", "x" * 1_900_000, "/mine", room="r")
    assert len(outside.published()) == 1


def test_an_emit_without_redis_raises_and_nobody_has_it() -> None:
    """Row 31: the library logs an error and returns; clients of the same node have the event, others don't."""
    ours = hall.ours(RedisClient(connect(CLOSED)), "/logs")
    stock = hall.stock(socketio.RedisManager(CLOSED, logger=False))
    for one in (ours, stock):
        one.connect("e1", "/mine", "acme:")
    with pytest.raises(Unavailable):
        ours.server.emit("e", 1, namespace="/mine", to="acme:")
    assert ours.sent == {}
    stock.server.emit("e", 1, namespace="/mine", to="acme:")
    assert stock.heard("e1") == [("e", 1)]


def test_a_callback_is_called_by_a_client_of_this_node(node: Hall, outside: Outside) -> None:
    sid, called = node.connect("e1", "/mine"), []
    node.server.emit("ask", 1, namespace="/mine", to=sid, callback=lambda *args: called.append(args))
    assert node.sent["e1"] == ['2/mine,1["ask",1]']
    node.manager.trigger_callback(sid, 1, ["x", 2])
    assert called == [("x", 2)] and outside.published() == []


def test_a_callback_is_called_by_a_client_of_another_node(
    node: Hall, runner: RedisClient, shared_redis: PrivateRedis, outside: Outside
) -> None:
    other = hall.ours(runner, "/logs", channel=node.manager.channel)
    sid, called = other.connect("e1", "/mine"), []
    node.server.emit("ask", 1, namespace="/mine", to=sid, callback=lambda *args: called.append(args))
    (asked,) = outside.published()
    other.manager.heard_outside(dumps(asked).encode())
    assert other.sent["e1"] == ['2/mine,1["ask",1]']
    other.manager.trigger_callback(sid, 1, ["x"])
    (answered,) = outside.published()
    other.manager.heard_outside(dumps(answered).encode())
    assert called == []
    node.manager.heard_outside(dumps(answered).encode())
    node.manager.heard_outside(dumps(answered).encode())
    assert called == [("x",)]


def test_rooms_and_clients_of_other_nodes_are_managed_through_redis(
    node: Hall, runner: RedisClient, outside: Outside
) -> None:
    other = hall.ours(runner, "/logs", channel=node.manager.channel)
    sid = node.connect("e1", "/mine")
    other.server.enter_room(sid, "lobby", namespace="/mine")
    outside.come_back()
    assert node.manager.get_rooms(sid, "/mine") == [sid, "lobby"]
    other.server.leave_room(sid, "lobby", namespace="/mine")
    outside.come_back()
    assert node.manager.get_rooms(sid, "/mine") == [sid]
    node.manager.enter(sid, "/mine", "lobby")
    other.server.close_room("lobby", namespace="/mine")
    outside.come_back()
    assert node.manager.get_rooms(sid, "/mine") == [sid]
    other.server.disconnect(sid, namespace="/mine")
    outside.come_back()
    assert node.manager.rooms == {} and node.sent["e1"] == ["1/mine,"]


def test_nobody_outside_enters_a_client_into_a_tenants_room(node: Hall) -> None:
    sid = node.connect("e1", "/logs", "acme:")
    for method in ("enter_room", "leave_room", "close_room"):
        message = {"method": method, "sid": sid, "room": "other:", "namespace": "/logs", "host_id": "x"}
        node.manager.heard_outside(dumps(message).encode())
    gevent.sleep(0.01)
    assert node.manager.get_rooms(sid, "/logs") == [sid, "acme:"] and node.manager.dropped == {"unaddressed": 3}


EMIT = {"method": "emit", "event": "e", "data": [1], "namespace": "/mine", "room": None, "host_id": "x"}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"1",
        b"{}",
        b"[" * 100_000,
        dumps({"method": "emit"}).encode(),
        dumps({**EMIT, "event": 1}).encode(),
        dumps({**EMIT, "data": 1, "binary": True}).encode(),
        dumps({**EMIT, "data": [{"_placeholder": True, "num": 5}], "binary": True}).encode(),
        dumps({**EMIT, "namespace": []}).encode(),
        dumps({**EMIT, "namespace": None}).encode(),
        dumps({**EMIT, "room": {"a": 1}}).encode(),
        dumps({**EMIT, "room": [[]]}).encode(),
        dumps({**EMIT, "room": 1}).encode(),
        dumps({**EMIT, "skip_sid": {}}).encode(),
        dumps({**EMIT, "callback": ["a", "b", "c"]}).encode(),
        dumps({**EMIT, "callback": 1}).encode(),
        dumps({"method": "callback"}).encode(),
        dumps({"method": "callback", "host_id": "x", "sid": [], "id": 1, "args": 1}).encode(),
        dumps({"method": "disconnect"}).encode(),
        dumps({"method": "disconnect", "sid": [], "namespace": "/mine"}).encode(),
        dumps({"method": "enter_room", "sid": [], "namespace": "/mine", "room": "a"}).encode(),
        dumps({"method": "enter_room", "namespace": {}, "room": "a"}).encode(),
        dumps({"method": "close_room", "namespace": "/mine", "room": []}).encode(),
        dumps({"method": "__class__"}).encode(),
        dumps({"method": "thread", "namespace": "/mine"}).encode(),
    ],
)
def test_a_message_of_any_form_is_taken_without_an_error(
    node: Hall, message: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 35: anyone with the Redis password can publish; it is ignored, and never a traceback."""
    sid = node.connect("e1", "/mine", "lobby")
    node.manager.heard_outside(message)
    gevent.sleep(0.01)
    assert node.manager.get_rooms(sid, "/mine") == [sid, "lobby"]
    assert "Traceback" not in capsys.readouterr().err
    node.manager.heard_outside(dumps({**EMIT, "event": "after"}).encode())
    assert node.heard("e1")[-1] == ("after", 1)


def test_a_foreign_message_cannot_empty_the_table_of_clients(node: Hall) -> None:
    """A room without a name is everyone; to enter and leave it must not take the client out of the namespace."""
    sid = node.connect("e1", "/mine")
    for method in ("enter_room", "leave_room"):
        node.manager.heard_outside(
            dumps({"method": method, "sid": sid, "namespace": "/mine", "room": None, "host_id": "x"}).encode()
        )
        gevent.sleep(0.01)
    assert node.manager.eio_sid_from_sid(sid, "/mine") == "e1"
    assert node.manager.get_rooms(sid, "/mine") == [sid]


def test_a_write_only_manager_of_a_strange_process_is_heard(
    node: Hall, outside: Outside, shared_redis: PrivateRedis
) -> None:
    node.connect("e1", "/logs", "acme:")
    elsewhere = socketio.RedisManager(shared_redis.url, channel=node.manager.channel, write_only=True)
    elsewhere.emit("e", {"a": []}, namespace="/logs", room="acme:")
    elsewhere.emit("all", 1, namespace="/logs")
    elsewhere.redis.close()
    assert outside.come_back() == 2
    assert node.heard("e1") == [("e", {"a": []})] and node.manager.dropped == {"unaddressed": 1}


# Before CONNECT


def test_what_a_connect_handler_emits_to_its_client_is_sent_after_connect(node: Hall) -> None:
    """Row 28: the library sends it before the client knows that it is connected."""
    stock = hall.stock()
    for one, before in ((node, []), (stock, [("welcome", 1)])):
        sid = one.manager.pre_connect("e1", "/mine")
        one.server.emit("welcome", 1, namespace="/mine", to=sid)
        assert one.heard("e1") == before
        one.manager.connect(sid, "/mine")
        assert one.heard("e1") == [("welcome", 1)]


def test_early_emits_are_kept_in_order_and_bounded_and_gone_with_the_client(node: Hall) -> None:
    sid = node.manager.pre_connect("e1", "/mine")
    for number in range(MAX_EARLY + 5):
        node.server.emit("e", number, namespace="/mine", to=sid)
    node.manager.connect(sid, "/mine")
    assert [payload for _, payload in node.heard("e1")] == list(range(MAX_EARLY))
    refused = node.manager.pre_connect("e2", "/mine")
    node.server.emit("e", 1, namespace="/mine", to=refused)
    node.manager.disconnect(refused, "/mine", ignore_queue=True)
    assert node.manager._early == {} and "e2" not in node.sent


def test_initialize_starts_nothing(node: Hall, no_leaks: None) -> None:
    node.manager.initialize()
    assert not hasattr(node.manager, "thread")
