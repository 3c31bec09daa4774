"""Clients that come back, without a transport: eviction, generations, what is saved when, and what is left behind."""

from typing import Any

import gevent
import msgspec
import pytest

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.admission.recovery import ReplayUncertain, SessionRecovery
from mintflow_realtime.fanout.recover.replay import Replay
from mintflow_realtime.fanout.recover.sessions import SessionStore
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.envelope import ORIGIN
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from tests.house import House
from tests.servers import token

ANN = {"token": token("ann"), "recover": True}


class Enter(msgspec.Struct, forbid_unknown_fields=True):
    room: str


class Own(Namespace):
    """A namespace that keeps something of a client, and writes down what becomes of it."""

    def __init__(self, house: House) -> None:
        super().__init__("/own")
        self.house, self.log = house, list[Any]()
        self.go = gevent.event.Event()
        self.go.set()

    def joined(self, client: Client) -> None:
        self.log.append("joined")

    def recovered(self, client: Client, memo: str) -> None:
        self.log.append(f"recovered {memo}")

    def memo(self, client: Client) -> str:
        return f"memo of {client.principal.user_id}"

    def left(self, client: Client) -> None:
        self.log.append("left")

    def away(self, client: Client) -> None:
        self.log.append("away")

    def moved(self, client: Client) -> None:
        self.log.append("moved")

    @handles(Enter)
    def enter(self, client: Client, command: Enter) -> dict[str, Any]:
        self.go.wait()
        self.house.manager.enter(client.sid, "/own", f"acme:own:{command.room}")
        return {}


class Node:
    """One node of a house of its own on the Redis of all; `nodes` are those that a word reaches."""

    nodes: dict[str, "Node"]

    def __init__(self, runner: RedisClient, keys: Keys, name: str) -> None:
        self.name, self.house = name, House(runner, keys)
        self.own = Own(self.house)
        house = self.house
        house.manager.position = lambda tenant, namespace: house.publisher.head(tenant, namespace)[0] or ORIGIN
        self.store = SessionStore(runner, keys, name, 60)
        self.recovery = SessionRecovery(
            self.store,
            Replay(house.publisher, self, house.manager),
            house.manager,
            house.gate.clients,
            self._order,
        )
        house.gate._recovery = self.recovery
        self.recovery.drop, self.recovery.memo_of = house.gate._drop, house.gate._memo_of
        house.serve(self.own)
        house.gate._close_transport = self._close

    def _order(self, node: str, message: str) -> bool:
        if node in self.nodes:
            self.nodes[node].recovery.on_node_message(message.encode())
        return node in self.nodes

    def _close(self, connection: str, reason: str) -> None:
        self.house.closed.append((connection, reason))
        self.end(connection)

    def end(self, connection: str, *, for_good: bool = False) -> None:
        """Do what the transport does when a connection ends."""
        self.house.hall.server.environ.pop(connection, None)
        for client in self.house.gate.clients.of_connection(connection):
            self.house.manager.forget(client.sid, client.namespace)
            self.house.gate.left(client.sid, client.namespace, connection, for_good=for_good)

    def position(self, tenant: str, namespace: str) -> Any:
        return self.house.manager.position(tenant, namespace)

    def breaks(self, tenant: str, namespace: str) -> int:
        return 0

    def wait_until_passed(self, tenant: str, namespace: str, number: int) -> None: ...

    def connect(self, connection: str, auth: Any = None, **more: Any) -> tuple[Client, dict[str, Any]]:
        """Do what the transport does with a CONNECT; return the client and what CONNECT says."""
        house = self.house
        house.hall.server.environ[connection] = {}
        sid = house.manager.pre_connect(connection, "/own")
        assert sid is not None
        auth = {**(ANN if auth is None else auth), **more}
        sid = house.gate.admit(connection, sid, "/own", {"QUERY_STRING": ""}, auth)
        answer = house.gate.prepare(sid, "/own")
        house.manager.connect(sid, "/own")
        house.gate.joined(sid, "/own")
        client = house.gate.clients.get(sid, "/own")
        assert client is not None
        return client, answer


@pytest.fixture
def nodes(runner: RedisClient, keys: Keys) -> tuple[Node, Node]:
    one, other = Node(runner, keys, "one"), Node(runner, keys, "other")
    Node.nodes = {"one": one, "other": other}
    return one, other


def rooms(node: Node, client: Client) -> set[str]:
    return set(node.house.manager._rooms_of["/own", client.sid])


def test_a_session_begins_goes_on_and_ends(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    first, answer = one.connect("e1")
    assert [name for name, _ in one.house.hall.heard("e1")] == ["position"]
    one.house.did(first, "enter", {"room": "x"})
    one.end("e1")
    assert one.own.log == ["joined", "away"]
    second, again = other.connect("e1", pid=answer["pid"], offset="0-0")
    assert (second.sid, again) == (first.sid, answer)
    assert rooms(other, second) == {"acme:", "acme:own:x"} and other.own.log == ["recovered memo of ann"]
    other.end("e1", for_good=True)
    assert other.own.log[-1] == "left"
    third, fresh = one.connect("e2", pid=answer["pid"])
    assert third.sid != first.sid and fresh["pid"] != answer["pid"] and third.resync == "expired"
    assert [name for name, _ in one.house.hall.heard("e2")] == ["resync", "position"]
    assert other.house.channels.open_now == {} and other.house.manager.rooms == {}


def test_who_does_not_ask_has_no_session(nodes: tuple[Node, Node], runner: RedisClient, keys: Keys) -> None:
    one, _ = nodes
    for number, recover in enumerate((None, False, 1, "true", {})):
        client, answer = one.connect(f"e{number}", recover=recover)
        assert answer == {} and client.recovery is None
    assert one.house.hall.sent == {} and runner.command("KEYS", f"{keys.prefix}:*session*") == []
    one.end("e0")
    assert one.own.log[-1] == "left"


@pytest.mark.parametrize("place", [0, 1])
def test_the_old_connection_is_closed_and_says_nothing_more(nodes: tuple[Node, Node], place: int) -> None:
    one, taker = nodes[0], nodes[place]
    old, answer = one.connect("e1")
    new, again = taker.connect("e2", pid=answer["pid"])
    assert (new.sid, again) == (old.sid, answer)
    assert one.house.closed == [("e1", "recovered")] and "moved" in one.own.log and "away" not in one.own.log
    assert taker.house.gate.clients.get(new.sid, "/own") is new
    assert taker.house.manager.eio_sid_from_sid(new.sid, "/own") == "e2"
    # Whatever comes late from the old one touches nothing of the new one's.
    one.house.gate.left(old.sid, "/own", "e1")
    one.house.hall.server._forget("e1", old.sid, "/own")
    assert taker.house.gate.clients.get(new.sid, "/own") is new and rooms(taker, new) == {"acme:"}
    assert taker.house.did(new, "enter", {"room": "x"}) == {}


def test_an_old_node_that_does_not_answer_is_not_waited_for_long(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    old, answer = one.connect("e1")
    one.recovery.on_node_message = lambda message: None  # type: ignore[method-assign]
    with gevent.Timeout(2):
        new, _ = other.connect("e2", pid=answer["pid"])
    # A command of the old connection that changes rooms is told that it did not.
    assert one.house.refused(old, "enter", {"room": "x"}) == "unavailable"
    gevent.sleep(0.01)
    assert one.house.closed == [("e1", "recovered")]
    one.recovery.tick()
    other.recovery.tick()
    assert rooms(other, new) == {"acme:"}


def test_a_superseded_session_is_found_by_its_refresh(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    _, answer = one.connect("e1")
    Node.nodes = {}
    other.connect("e2", pid=answer["pid"])
    one.recovery._refresh_at = 0
    one.recovery.tick()
    gevent.sleep(0.01)
    assert one.house.closed == [("e1", "recovered")] and one.own.log[-1] == "moved"


def test_nonsense_on_the_node_s_channel_is_ignored(nodes: tuple[Node, Node]) -> None:
    one, _ = nodes
    client, _ = one.connect("e1")
    for message in (b"", b"\xff", b"evict", b"evict\n/own", f"evict\n/own\n{client.sid}\n1".encode(), b"evict\n\n\nx"):
        one.recovery.on_node_message(message)
    gevent.sleep(0.01)
    assert one.house.closed == []


def test_a_command_at_work_on_the_old_connection_ends_first(nodes: tuple[Node, Node]) -> None:
    one, _ = nodes
    old, answer = one.connect("e1")
    one.own.go.clear()
    working = gevent.spawn(one.house.ask, old, "enter", {"room": "late"})
    gevent.sleep(0.01)
    taking = gevent.spawn(one.connect, "e2", None, pid=answer["pid"])
    gevent.sleep(0.05)
    assert not taking.ready() and one.house.closed == [("e1", "recovered")]
    one.own.go.set()
    new, _ = taking.get(timeout=2)
    gevent.joinall([working], timeout=2)
    assert rooms(one, new) == {"acme:"}


def test_two_connections_with_one_pid_end_with_one(nodes: tuple[Node, Node]) -> None:
    one, _ = nodes
    first, answer = one.connect("e0")
    assert first.recovery is not None
    epoch, at = first.recovery.start.split("-")
    one.end("e0")
    # Each with an offset of its own text: one that shows the same again is only connected to pass on what it holds.
    attempts = [
        gevent.spawn(one.connect, f"e{number}", None, pid=answer["pid"], offset=f"{epoch}-{'0' * number}{at}")
        for number in range(1, 5)
    ]
    gevent.joinall(attempts)
    kept = [connection for connection in ("e1", "e2", "e3", "e4") if one.house.gate.clients.of_connection(connection)]
    assert len(kept) == 1 and one.house.channels.open_now == {("acme", "/own"): 1}
    for attempt in attempts:
        assert attempt.successful() or isinstance(attempt.exception, Unavailable)


def test_what_no_answer_waits_for_is_saved_soon_and_at_the_end(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    client, answer = one.connect("e1")
    one.house.manager.enter(client.sid, "/own", "acme:own:a")
    one.recovery.tick()
    assert one.house.manager.unsaved == set()
    one.house.manager.enter(client.sid, "/own", "acme:own:b")
    one.end("e1")
    new, _ = other.connect("e1", pid=answer["pid"])
    assert rooms(other, new) == {"acme:", "acme:own:a", "acme:own:b"}


def test_redis_silent_at_the_first_save_is_made_up_for(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = nodes

    def silent(*_: Any, **__: Any) -> Any:
        raise Unavailable("silent")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "_write", silent)
        client, answer = one.connect("e1")
        assert one.house.refused(client, "enter", {"room": "x"}) == "unavailable"
        one.recovery.tick()
        assert one.house.manager.unsaved
    one.recovery.tick()
    assert not one.house.manager.unsaved
    new, _ = other.connect("e2", pid=answer["pid"])
    assert new.sid == client.sid and rooms(other, new) == {"acme:", "acme:own:x"}
    with monkeypatch.context() as patch:
        patch.setattr(other.store, "release", silent)
        other.end("e2")
    assert other.own.log[-1] == "away"


def test_a_narrower_token_is_the_session_s_from_then_on(nodes: tuple[Node, Node]) -> None:
    one, other = nodes
    client, answer = one.connect("e1")
    narrow = token("ann", scope="logs:read")
    one.house.did(client, "auth_refresh", {"token": narrow})
    one.end("e1")
    new, _ = other.connect("e1", {"token": narrow, "recover": True}, pid=answer["pid"])
    assert new.sid == client.sid
    other.end("e1")
    wide, _ = one.connect("e2", pid=answer["pid"])
    assert wide.sid != client.sid and wide.resync == "scope"


def test_a_replay_that_fails_leaves_nothing_and_may_be_tried_again(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = nodes
    client, answer = one.connect("e1")
    one.end("e1")
    with monkeypatch.context() as patch:

        def silent(*_: Any) -> Any:
            raise Unavailable("silent")

        patch.setattr(other.house.publisher, "page", silent)
        with pytest.raises(Unavailable):
            other.connect("e2", pid=answer["pid"])
    assert len(other.house.gate.clients) == 0 and other.house.channels.open_now == {}
    other.house.manager.forget(other.house.manager.sid_from_eio_sid("e2", "/own"), "/own")
    # It may hold a part of what was sent, and must pass that on first.
    sid = other.house.manager.pre_connect("e3", "/own")
    other.house.hall.server.environ["e3"] = {}
    with pytest.raises(ReplayUncertain) as held:
        other.house.gate.admit("e3", sid, "/own", {"QUERY_STRING": ""}, {**ANN, "pid": answer["pid"]})
    other.house.manager.forget(sid, "/own")
    assert other.house.channels.open_now == {} and len(other.house.gate.clients) == 0
    other.recovery.replay_confirmed(held.value.session)
    assert other.connect("e4", pid=answer["pid"])[0].sid == client.sid


@pytest.mark.parametrize("error", [None, Unavailable("silent")])
def test_one_who_is_revoked_as_it_comes_back_leaves_nothing(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    one, _ = nodes
    _, answer = one.connect("e1")
    one.end("e1")

    def revoked(principals: Any) -> Any:
        if error is not None:
            raise error
        return [True]

    monkeypatch.setattr(one.house.access, "revoked", revoked)
    with pytest.raises(Unavailable):
        one.connect("e2", pid=answer["pid"])
    assert one.house.manager.rooms == {} and one.house.manager.sessions() == []
    assert len(one.house.gate.clients) == 0 and one.house.channels.open_now == {}


def test_a_pid_is_in_no_text_that_is_logged(nodes: tuple[Node, Node]) -> None:
    client, answer = nodes[0].connect("e1")
    assert answer["pid"] not in f"{client!r} {client.recovery!r}"
