"""The Socket.IO server over real WebSockets, and in the same scenario what the library does."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import gevent
import pytest
import socketio
from gevent.event import Event

from mintflow_realtime.transport.socket_io import connecting
from mintflow_realtime.transport.socket_io.admission import NotNow, Refusal
from mintflow_realtime.transport.socket_io.dispatch import MAX_CONCURRENT
from mintflow_realtime.transport.socket_io.events import MAX_SAID, SAID_BYTES
from mintflow_realtime.transport.socket_io.inbox import MAX_WAITING
from tests.sockets_client import Client, serving, serving_stock
from tests.transport_client import until


class Gate:
    """Admits everyone but those whose auth says otherwise, and writes down who came and left."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.go = Event()

    def admit(self, eio_sid: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> None:
        self.log.append(("admit", namespace))
        wish = auth.get("wish") if isinstance(auth, dict) else None
        if wish == "refuse":
            raise Refusal("no", "forbidden")
        if wish == "later":
            raise NotNow("not now")
        if wish == "nobody":
            raise NotNow("Redis is away", busy=True)
        if wish == "raise":
            raise LookupError("a fault")
        if wish == "wait":
            self.go.wait()

    def joined(self, sid: str, namespace: str) -> None:
        self.log.append(("joined", namespace))

    def prepare(self, sid: str, namespace: str) -> dict[str, Any]:
        return {}

    def left(self, sid: str, namespace: str, connection: str | None = None, *, for_good: bool = False) -> None:
        self.log.append(("left", namespace))


class Mine(socketio.Namespace):
    """A stock namespace with a handler for each thing that can go wrong."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.log: list[Any] = []
        self.go = Event()
        self.running = self.most = 0

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> Any:
        self.log.append(("connect", auth))
        wish = auth.get("handler") if isinstance(auth, dict) else None
        if wish == "raise":
            raise LookupError("a fault")
        if wish == "false":
            return False
        if wish == "refuse":
            raise socketio.exceptions.ConnectionRefusedError("go away", 1)
        if wish == "builtin":
            raise ConnectionRefusedError
        if wish == "emit":
            self.emit("welcome", 1, to=sid)
        if wish == "wait":
            self.go.wait()
        return None

    def on_disconnect(self, sid: str, reason: str) -> None:
        self.log.append(("disconnect", reason))

    def on_echo(self, sid: str, *args: Any) -> Any:
        return args

    def on_raise(self, sid: str, *args: Any) -> None:
        raise LookupError("a fault")

    def on_bye(self, sid: str) -> None:
        self.disconnect(sid)

    def on_work(self, sid: str, number: int) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.go.wait()
        self.running -= 1
        self.log.append(number)


class Typed(socketio.Namespace):
    """A namespace of the typed kind, as far as the transport knows it."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self.taken: list[Any] = []
        self.go = Event()
        self.go.set()

    def respond(self, sid: str, event: str, args: list[Any], reply: Any) -> None:
        self.go.wait()
        gevent.sleep(0.001 if len(self.taken) % 2 else 0)
        self.taken.append((event, args))
        if reply.acked:
            reply.ack({"did": event})
        else:
            reply.emit(event, {"did": event})

    def busy(self, reply: Any, event: str) -> None:
        reply.ack("busy") if reply.acked else reply.emit("busy", event)


class World:
    def __init__(self, server: Any, gate: Gate | None, mine: Mine, typed: Typed | None) -> None:
        self.server, self.gate, self.mine, self.typed = server, gate, mine, typed


@contextmanager
def ours(gated: bool = True, **options: Any) -> Iterator[World]:
    gate, mine, typed = Gate() if gated else None, Mine("/mine"), Typed("/typed")

    def build(server: Any) -> None:
        server.register(mine)
        server.register(typed)

    with serving(build, gate, **options) as server:
        yield World(server, gate, mine, typed)
    assert server.eio.sockets == {} and server.environ == {}
    assert server.manager.rooms == {} and server.manager.callbacks == {} and server._partial == {}
    assert server._inboxes == {} and server._running == {}
    assert server.manager._rooms_of == {} and server.manager._connecting == set() == server.manager._leaving


@contextmanager
def stock(**options: Any) -> Iterator[World]:
    mine = Mine("/mine")
    with serving_stock(lambda server: server.register_namespace(mine), **options) as server:
        yield World(server, None, mine, None)


# Connecting


def test_who_is_admitted_joins_and_leaves_through_the_gate() -> None:
    with ours() as world, Client(world.server) as client:
        sid = client.joined("/mine", {"a": 1})
        assert world.server.manager.is_connected(sid, "/mine")
        client.send("1/mine,")
        until(lambda: world.server.manager.rooms == {})
        assert world.gate and world.gate.log == [("admit", "/mine"), ("joined", "/mine"), ("left", "/mine")]
        assert world.mine.log == [("connect", {"a": 1}), ("disconnect", "client disconnect")]


@pytest.mark.parametrize("namespace", ["/nowhere", "/", "/mine/", "/*"])
def test_an_unknown_namespace_is_refused_in_the_protocols_words(namespace: str) -> None:
    """Row 27, and row 5: `/` is open in the library as soon as no namespaces are named."""
    with ours() as world, Client(world.server) as client:
        client.send("0" + (f"{namespace}," if namespace != "/" else ""))
        packet = client.read()
        assert json.loads(packet[packet.index("{") :]) == {"message": "Invalid namespace"} and packet[0] == "4"
        assert world.gate and world.gate.log == []
        assert client.connect("/mine").startswith("0/mine,")
    with stock() as world, Client(world.server) as client:
        assert client.connect("/nowhere") == '4/nowhere,"Unable to connect"'


def test_the_library_opens_the_root_by_itself() -> None:
    """Row 5: a handler of `/` that was never asked whether to admit anybody."""
    with serving_stock(lambda server: server.on("anything", lambda sid: None)) as server, Client(server) as client:
        client.send("0")
        assert client.read().startswith('0{"sid"')


@pytest.mark.parametrize(
    ("auth", "answer"),
    [
        ({"wish": "refuse"}, {"message": "no", "data": {"code": "forbidden"}}),
        ({"wish": "raise"}, {"message": "Internal error", "data": {"code": "internal"}}),
        ({"handler": "raise"}, {"message": "Internal error", "data": {"code": "internal"}}),
        ({"handler": "false"}, {"message": "Connection rejected by server"}),
        ({"handler": "refuse"}, {"message": "go away", "data": 1}),
        ({"handler": "builtin"}, {"message": "Connection refused by server"}),
    ],
)
def test_who_is_refused_is_told_why_and_leaves_nothing_behind(auth: dict[str, str], answer: Any) -> None:
    """Row 3."""
    with ours() as world, Client(world.server) as client:
        packet = client.connect("/mine", auth)
        assert packet[:7] == "4/mine," and json.loads(packet[7:]) == answer
        assert world.server.manager.rooms == {}
        admitted = "wish" not in auth
        assert world.gate and world.gate.log == [("admit", "/mine")] + [("left", "/mine")] * admitted
        assert all(name == "connect" for name, *_ in world.mine.log)
        client.joined("/mine")


def test_a_connect_handler_that_raises_leaves_the_client_connected_in_the_library() -> None:
    """Row 3: neither refused nor admitted, it keeps getting broadcasts, and stays in the tables for good."""
    with stock() as world, Client(world.server) as client:
        client.send('0/mine,{"handler":"raise"}')
        until(lambda: world.mine.log)
        world.server.emit("broadcast", 1, namespace="/mine")
        assert client.read() == '2/mine,["broadcast",1]'
        client.socket.close()
        until(lambda: not world.server.eio.sockets or world.server.environ == {})
        assert world.server.manager.rooms["/mine"][None]


def test_where_nobody_can_be_let_in_each_is_sent_away_at_another_time_and_handshakes_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of a node's clients came back at once, all together, for as long as Redis was away."""
    monkeypatch.setattr(connecting, "LATER_SECONDS", 1.0)
    with ours() as world, ExitStack() as stack:
        clients = [stack.enter_context(Client(world.server)) for _ in range(8)]
        began = time.monotonic()
        for client in clients:
            client.send('0/mine,{"wish":"nobody"}')
        ends = [gevent.spawn(lambda c=client: (c.ended(), time.monotonic() - began)[1]) for client in clients]
        gevent.sleep(0.02)
        assert not world.server.eio.sockets or monotonic_busy(world.server)
        gevent.joinall(ends, 5, raise_error=True)
        times = sorted(one.value for one in ends)
        assert times[0] > 0.15 and times[-1] < 1.5 and times[-1] - times[0] > 0.2
        assert world.mine.log == []
        world.server.eio.busy_until = 0.0
        with Client(world.server) as client:
            client.joined("/mine")


def monotonic_busy(server: Any) -> bool:
    environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": "EIO=4&transport=polling", "PATH_INFO": "/socket.io/"}
    refused = server.eio.refusal(environ)
    return refused is not None and refused.status.startswith("503") and ("Retry-After", "1") in refused.headers


def test_what_may_pass_later_closes_the_transport_instead() -> None:
    with ours() as world, Client(world.server) as client:
        client.send('0/mine,{"wish":"later"}')
        assert client.ended()
        assert world.gate and world.gate.log == [("admit", "/mine")]


@pytest.mark.parametrize("auth", [{"wish": "wait"}, {"handler": "wait"}])
def test_a_client_that_goes_away_while_it_is_admitted_leaves_nothing_behind(
    auth: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with ours() as world:
        assert world.gate
        with Client(world.server) as client:
            client.send("0/mine," + json.dumps(auth))
            until(lambda: world.gate and world.gate.log and ("wish" in auth or world.mine.log))
            world.server.close_transport(client.eio_sid, "gone")
        until(lambda: world.server.environ == {})
        world.gate.go.set()
        world.mine.go.set()
        until(lambda: ("left", "/mine") in world.gate.log)
        assert ("joined", "/mine") not in world.gate.log and world.server.manager.rooms == {}
        assert "Traceback" not in caplog.text


def test_no_broadcast_reaches_a_client_before_its_connect_handler_has_run() -> None:
    """Row 2."""
    with ours() as world, Client(world.server) as client:
        client.send('0/mine,{"handler":"wait"}')
        until(lambda: world.mine.log)
        world.server.manager.emit("secret", 1, "/mine")
        world.mine.go.set()
        assert client.read().startswith('0/mine,{"sid"') and client.silent()
    with stock() as world, Client(world.server) as client:
        client.send('0/mine,{"handler":"wait"}')
        until(lambda: world.mine.log)
        world.server.emit("secret", 1, namespace="/mine")
        assert client.read() == '2/mine,["secret",1]'
        world.mine.go.set()


@pytest.mark.parametrize("auth", [None, {}, {"token": "t", "more": [1]}])
def test_a_second_connect_that_says_the_same_is_ignored(auth: Any) -> None:
    """An `auth` function of the stock client that calls back twice sends two."""
    with ours() as world, Client(world.server) as client:
        packet = "0/mine," + ("" if auth is None else json.dumps(auth))
        client.send(packet)
        client.send(packet)
        assert client.read().startswith("0/mine,")
        client.send(packet)
        client.send('2/mine,1["echo","a"]')
        assert client.read() == '3/mine,1["a"]'
        assert [one for one, *_ in world.mine.log] == ["connect"]


@pytest.mark.parametrize(
    ("first", "second"), [('{"token":"t"}', '{"token":"u"}'), ("", '{"token":"t"}'), ('{"a":1}', "")]
)
def test_a_second_connect_that_says_something_else_breaks_the_protocol(first: str, second: str) -> None:
    with ours() as world, Client(world.server) as client:
        client.send("0/mine," + first)
        assert client.read().startswith("0/mine,")
        client.send("0/mine," + second)
        assert client.ended()
        until(lambda: world.mine.log[-1][0] == "disconnect")


def test_what_another_namespaces_connect_said_is_not_this_ones() -> None:
    with ours() as world, Client(world.server) as client:
        client.send('0/mine,{"a":1}')
        assert client.read().startswith("0/mine,")
        client.send('0/typed,{"a":2}')
        assert client.read().startswith("0/typed,")
        client.send('0/mine,{"a":2}')
        assert client.ended()


def test_a_namespace_that_was_left_is_entered_anew() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/typed")
        sids = []
        for _ in range(40):
            sids.append(client.joined("/mine", {"a": len(sids)}))
            client.send("1/mine,")
        assert len(set(sids)) == 40
        client.joined("/mine", {"a": 0})
        assert len(world.server.eio.sockets[client.eio_sid].introduced) == MAX_SAID * SAID_BYTES


def test_an_open_namespace_is_not_the_gates() -> None:
    gate, mine = Gate(), Mine("/mine")

    def build(server: Any) -> None:
        server.register(mine)
        server.register(mine, authenticate=False)

    with serving(build, gate) as server, Client(server) as client:
        client.joined("/mine", {"wish": "refuse"})
        client.send("1/mine,")
        until(lambda: len(mine.log) == 2)
        assert gate.log == []
        server.register(mine)
        with Client(server) as other:
            assert other.connect("/mine", {"wish": "refuse"})[0] == "4"


def test_the_latest_registered_serves_a_namespace() -> None:
    first, second = Mine("/mine"), Mine("/mine")

    def build(server: Any) -> None:
        server.register(first)
        server.register(second)

    with serving(build) as server, Client(server) as client:
        client.joined("/mine")
        assert (first.log, second.log) == ([], [("connect", None)])


def test_handlers_with_two_parameters_connect_as_they_do_in_the_library() -> None:
    class Legacy(socketio.Namespace):
        def on_connect(self, sid: str, environ: dict[str, Any]) -> None:
            self.came = True

    one = Legacy("/mine")
    with serving(lambda server: server.register(one)) as server, Client(server) as client:
        client.joined("/mine")
        assert one.came
        with Client(server) as other:
            assert other.connect("/mine", {"a": 1})[0] == "4"
    with serving(lambda server: server.on("connect", lambda sid, environ: True, namespace="/f")) as server:
        with Client(server) as client:
            client.joined("/f")


# Leaving


def test_disconnecting_a_client_closes_its_transport_with_its_last_namespace() -> None:
    """Row 10: the library leaves the TCP connection open for as long as the client likes."""
    with ours() as world, Client(world.server) as client:
        mine, typed = client.joined("/mine"), client.joined("/typed")
        world.server.disconnect(mine, namespace="/mine")
        assert client.read() == "1/mine,"
        assert client.eio_sid in world.server.eio.sockets
        world.server.disconnect(typed, namespace="/typed")
        assert client.read() == "1/typed," and client.ended()
        assert world.mine.log[-1] == ("disconnect", "server disconnect")
        world.server.disconnect(mine, namespace="/mine")
    with stock() as world, Client(world.server) as client:
        sid = client.joined("/mine")
        world.server.disconnect(sid, namespace="/mine")
        assert client.read() == "1/mine," and client.silent(0.3)
        assert client.eio_sid in world.server.eio.sockets


def test_a_client_disconnected_by_its_own_handler() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('2/mine,["bye"]')
        assert client.read() == "1/mine," and client.ended()
        assert [name for name, *_ in world.mine.log] == ["connect", "disconnect"]


def test_closing_a_transport_leaves_every_namespace_once_and_says_no_word() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.joined("/typed")
        world.server.close_transport(client.eio_sid, "revoked")
        with pytest.raises(EOFError):
            client.read()
        assert client.ended()
        until(lambda: not world.server.eio.sockets)
        assert world.mine.log[1:] == [("disconnect", "revoked")]
        assert world.gate and sorted(world.gate.log[-2:]) == [("left", "/mine"), ("left", "/typed")]


def test_a_disconnect_handler_that_raises_leaves_nothing_behind() -> None:
    class Raising(Mine):
        def on_disconnect(self, sid: str, reason: str) -> None:
            raise LookupError("a fault")

    gate = Gate()
    with serving(lambda server: server.register(Raising("/mine")), gate) as server, Client(server) as client:
        client.joined("/mine")
        client.socket.close()
        until(lambda: gate.log[-1] == ("left", "/mine"))
        assert server.manager.rooms == {} and server.manager._leaving == set()


# Events


@pytest.mark.parametrize("event", ["connect", "disconnect", "connect_error", "__disconnect_final"])
def test_events_with_the_names_of_handlers_are_refused(event: str) -> None:
    """Row 1."""
    error = {"code": "unknown_event", "message": f"{event} is not a command", "retryable": False}
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send(f'2/mine,7["{event}",{{"forged":true}},1]')
        assert client.read() == "3/mine,7" + json.dumps([{"ok": False, "error": error}], separators=(",", ":"))
        client.send(f'2/mine,["{event}"]')
        packet = client.read()
        assert json.loads(packet[7:]) == ["error", {"event": event, **error}]
        assert world.mine.log == [("connect", None)]


def test_the_library_runs_its_handlers_for_such_events() -> None:
    """Row 1: a disconnect that never was, with the client's own reason."""
    with stock() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('2/mine,["disconnect","forged"]')
        until(lambda: world.mine.log[-1] == ("disconnect", "forged"))
        client.send('2/mine,["connect",{},{"forged":true}]')
        until(lambda: world.mine.log[-1] == ("connect", {"forged": True}))


def test_a_stock_namespace_keeps_the_librarys_acks() -> None:
    with ours() as world, stock() as other:
        answers = []
        for one in (world, other):
            with Client(one.server) as client:
                client.joined("/mine")
                taken = []
                for sent in ('1["echo"]', '2["echo",[1]]', '3["echo",1,{"a":null}]', '4["nothing"]'):
                    client.send("2/mine," + sent)
                    taken.append(client.read())
                answers.append([taken[0], taken[3]] + [json.loads(one[8:]) for one in taken])
        assert answers[0] == answers[1]


def test_stock_handlers_that_raise_and_their_acks(caplog: pytest.LogCaptureFixture) -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('2/mine,1["raise"]')
        client.send('2/mine,2["bye",1,2,3]')
        client.send('2/mine,3["echo",1]')
        assert client.read() == "3/mine,3[1]"
        until(lambda: caplog.text.count("Traceback") == 2)


def test_stock_handlers_of_one_client_run_at_once_but_only_so_many() -> None:
    """Row 16: the library starts a greenlet for each event, without a bound."""
    count = MAX_CONCURRENT * 3
    for one, most in ((ours(), MAX_CONCURRENT), (stock(), count)):
        with one as world, Client(world.server) as client:
            client.joined("/mine")
            for number in range(count):
                client.send(f'2/mine,["work",{number}]')
            until(lambda world=world, most=most: world.mine.running == most)
            gevent.sleep(0.1)
            assert world.mine.most == most
            world.mine.go.set()
            until(lambda world=world: len(world.mine.log) == count + 1)
            assert sorted(world.mine.log[1:]) == list(range(count))


def test_typed_commands_are_answered_in_order() -> None:
    """Row 16."""
    with ours() as world, Client(world.server) as client:
        client.joined("/typed")
        for number in range(200):
            client.send(f'2/typed,{number}["c{number}",{number}]')
        assert [client.read() for _ in range(200)] == [f'3/typed,{n}[{{"did":"c{n}"}}]' for n in range(200)]
        assert world.typed and world.typed.taken == [(f"c{n}", [n]) for n in range(200)]
        client.send('2/typed,["plain"]')
        assert client.read() == '2/typed,["plain",{"did":"plain"}]'


def test_the_library_answers_in_any_order() -> None:
    """Row 16: an event that waits is overtaken."""
    with stock() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('2/mine,1["work",1]')
        client.send('2/mine,2["echo",2]')
        assert client.read() == "3/mine,2[2]"
        world.mine.go.set()


def test_of_a_full_inbox_nothing_is_refused_and_nothing_more_is_read() -> None:
    with ours() as world, Client(world.server) as client:
        assert world.typed
        client.joined("/typed")
        world.typed.go.clear()
        count = 4 * MAX_WAITING
        for number in range(count):
            client.send(f'2/typed,{number}["c"]')
        until(lambda: [session.paused for session in world.server.eio.sockets.values()] == [1])
        world.typed.go.set()
        assert [client.read() for _ in range(count)] == [f'3/typed,{n}[{{"did":"c"}}]' for n in range(count)]


def test_a_rate_slows_the_reading_down_before_anything_is_read_of_a_command() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/typed")
        waits = [0.0, 0.3, 0.0, 0.0, 0.3]
        world.server.pace = lambda eio_sid: waits.pop(0) if waits else 0.0
        began = time.monotonic()
        for number in range(10):
            client.send(f'2/typed,{number}["c"]')
        assert [client.read() for _ in range(10)] == [f'3/typed,{n}[{{"did":"c"}}]' for n in range(10)]
        assert time.monotonic() - began > 0.55


def test_who_is_refused_for_its_rate_is_told_by_the_head_of_its_command_alone() -> None:
    with ours() as world, Client(world.server) as client:
        assert world.typed
        client.joined("/typed")
        world.server.pace = lambda eio_sid: -1.0
        client.send('2/typed,7["c",{"not":JSON}')
        assert client.read() == '3/typed,7["busy"]'
        client.send('2/typed,["c",1]')
        assert client.read() == '2/typed,["busy","c"]'
        client.send("2/typed,[1]")
        assert client.read() == '2/typed,["busy",""]'
        assert world.typed.taken == []
        # Stock namespaces have no rate.
        client.joined("/mine")
        client.send('2/mine,9["echo"]')
        assert client.read() == "3/mine,9[]"


def test_a_client_that_goes_away_takes_its_waiting_commands_along() -> None:
    with ours() as world:
        assert world.typed
        with Client(world.server) as client:
            client.joined("/typed")
            world.typed.go.clear()
            for _ in range(5):
                client.send('2/typed,["c"]')
            until(lambda: world.server._inboxes)
        until(lambda: world.server._inboxes == {})
        world.typed.go.set()
        gevent.sleep(0.05)
        assert len(world.typed.taken) == 1


def test_events_of_a_namespace_that_the_client_is_not_in_are_ignored() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('2/typed,1["c"]')
        client.send('2/nowhere,1["c"]')
        client.send('2["c"]')
        client.send("1/typed,")
        client.send('3/typed,1["x"]')
        client.send('2/mine,9["echo"]')
        assert client.read() == "3/mine,9[]"
        assert world.typed and world.typed.taken == []


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "9",
        "x",
        "2/mine",
        "2/mine,",
        "2/mine,{}",
        "2/mine,[]",
        "2/mine,[1]",
        "2/mine,[null]",
        '2/mine,["e"',
        '2/mine,"e"',
        "2/mine,1",
        "2/mine," + "[" * 20_000,
        "3/mine,1{}",
        "3/mine,1",
        '4/mine,{"message":"x"}',
        '4/mine,"x"',
        '51-/nowhere,["e",{"_placeholder":true,"num":0}]',
        '5-/mine,["e"]',
        '5999999999999-/mine,["e"]',
        '51-/mine,["e",{"_placeholder":true,"num":7}]',
        "5",
        "6",
        "7",
    ],
)
def test_a_packet_that_breaks_the_protocol_ends_this_connection_alone(
    packet: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ours() as world, Client(world.server) as client, Client(world.server) as other:
        client.joined("/mine")
        other.joined("/mine")
        client.send(packet)
        if packet.startswith("51-/mine"):
            client.socket.socket.sendall(bytes([0x82, 0x81, 0, 0, 0, 0, 1]))
        assert client.ended()
        other.send('2/mine,1["echo"]')
        assert other.read() == "3/mine,1[]"
        assert "Traceback" not in caplog.text


def test_a_binary_packet_before_connect_is_not_kept() -> None:
    """Row 4."""
    with ours() as world, Client(world.server) as client:
        client.send('51-/mine,["e",{"_placeholder":true,"num":0}]')
        assert client.ended() and world.server._partial == {}


def test_a_binary_packet_that_is_never_completed_goes_with_its_connection() -> None:
    """Row 4."""
    with ours() as world:
        with Client(world.server) as client:
            client.joined("/mine")
            client.send('52-/mine,["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
            until(lambda: world.server._partial)
        until(lambda: world.server._partial == {})


def test_bytes_reach_a_stock_handler_and_come_back() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('51-/mine,3["echo",{"_placeholder":true,"num":0}]')
        client.socket.socket.sendall(bytes([0x82, 0x82, 0, 0, 0, 0, 1, 2]))
        assert client.read() == '61-/mine,3[{"_placeholder":true,"num":0}]'
        opcode, size = client.socket.exactly(2)
        assert (opcode & 15, client.socket.exactly(size)) == (2, b"\x01\x02")


def test_what_a_connect_handler_emits_comes_after_connect() -> None:
    """Row 28, with the manager that has it: the library's order is the other way round."""
    with stock() as world, Client(world.server) as client:
        client.send('0/mine,{"handler":"emit"}')
        assert client.read() == '2/mine,["welcome",1]' and client.read().startswith("0/mine,")


def test_attachments_come_right_behind_their_packet_and_are_bounded_together() -> None:
    first = '52-/mine,["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    with ours(max_http_buffer_size=1000) as world:
        for wrong in ('42/mine,["e"]', b"x" * 600, b"alone"):
            with Client(world.server) as client:
                client.joined("/mine")
                if wrong != b"alone":
                    client.send(first)
                if isinstance(wrong, str):
                    client.socket.write(wrong)
                else:
                    client.socket.write(wrong, opcode=2)
                    with suppress(OSError):
                        client.socket.write(wrong, opcode=2)
                assert client.ended()
        assert world.mine.log.count(("disconnect", "transport error")) == 3


def test_a_binary_packet_without_attachments_is_an_event() -> None:
    with ours() as world, Client(world.server) as client:
        client.joined("/mine")
        client.send('50-/mine,3["echo",1]')
        assert client.read() == "3/mine,3[1]"


def test_who_cannot_be_let_into_its_rooms_is_closed() -> None:
    """It was told that it is connected, so a refusal would come too late."""

    class Failing(Gate):
        def joined(self, sid: str, namespace: str) -> None:
            raise LookupError("a fault")

    gate, mine = Failing(), Mine("/mine")
    with serving(lambda server: server.register(mine), gate) as server, Client(server) as client:
        assert client.connect("/mine").startswith("0/mine,")
        assert client.ended()
        until(lambda: gate.log[-1] == ("left", "/mine"))
        assert mine.log == [("connect", None), ("disconnect", "transport error")] and server.manager.rooms == {}


def test_a_connect_handler_whose_error_may_pass_closes_the_transport() -> None:
    class Unanswered(LookupError):
        retryable = True

    class Mindful(Mine):
        def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> Any:
            raise Unanswered("Redis")

    with serving(lambda server: server.register(Mindful("/mine")), Gate()) as server, Client(server) as client:
        client.send("0/mine,")
        with pytest.raises(EOFError):
            client.read()
        assert client.ended() and server.manager.rooms == {}


def test_the_environ_of_a_connect_handler_is_a_dict_whose_additions_stay() -> None:
    class Noting(Mine):
        def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> Any:
            assert type(environ) is dict and json.dumps(environ["PATH_INFO"])
            environ["shop.user"] = {"name": "ann"}

    with serving(lambda server: server.register(Noting("/mine"))) as server, Client(server) as client:
        sid = client.joined("/mine")
        assert server.get_environ(sid, namespace="/mine")["shop.user"] == {"name": "ann"}


def test_what_a_stock_application_may_ask_of_the_server() -> None:
    """The library's own methods of the server, on our sessions."""
    with ours() as world, Client(world.server) as client:
        server, sid = world.server, client.joined("/mine")
        assert server.transport(sid, namespace="/mine") == "websocket"
        server.save_session(sid, {"user": "u"}, namespace="/mine")
        assert server.get_session(sid, namespace="/mine") == {"user": "u"}
        with server.session(sid, namespace="/mine") as session:
            session["more"] = 1
        assert server.get_session(sid, namespace="/mine") == {"user": "u", "more": 1}
        assert server.rooms(sid, namespace="/mine") == [sid]
        assert server.get_environ(sid, namespace="/mine")["PATH_INFO"] == "/socket.io/"
        server.send("hello", to=sid, namespace="/mine")
        assert client.read() == '2/mine,["message","hello"]'
        server.eio.disconnect(client.eio_sid)
        assert client.ended()
        until(lambda: not server.eio.sockets)
        assert world.mine.log[-1] == ("disconnect", "server disconnect")


# Acks of clients


def test_a_callback_that_raises_costs_nothing() -> None:
    def broken(*_: Any) -> None:
        raise LookupError("a fault")

    with ours() as world, Client(world.server) as client:
        sid, called = client.joined("/mine"), []
        world.server.emit("ask", namespace="/mine", to=sid, callback=broken)
        world.server.emit("ask", namespace="/mine", to=sid, callback=lambda *args: called.append(args))
        assert [client.read(), client.read()] == ['2/mine,1["ask"]', '2/mine,2["ask"]']
        for answer in ('3/mine,1["x"]', '3/mine,2["y",1]', '3/mine,2["twice"]', "3/mine,0[]", "3/mine,99[]"):
            client.send(answer)
        until(lambda: called == [("y", 1)])
        client.send('2/mine,1["echo"]')
        assert client.read() == "3/mine,1[]" and called == [("y", 1)]


def test_call_waits_for_the_answer() -> None:
    with ours() as world, Client(world.server) as client:
        sid = client.joined("/mine")
        asking = gevent.spawn(world.server.call, "ask", {"n": 1}, sid=sid, namespace="/mine", timeout=5)
        assert client.read() == '2/mine,1["ask",{"n":1}]'
        client.send('3/mine,1["answer"]')
        assert asking.get(timeout=5) == "answer"
