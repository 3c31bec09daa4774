"""Sessions over real sockets: what a slow client gets, how each end is said, and what is left of it."""

import json
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import gevent
import pytest

import mintflow_realtime.transport.engine_io.server
from mintflow_realtime.protocol.ai import merged_packets
from mintflow_realtime.transport.engine_io.message import CLOSE, DROP_OLDEST, LATEST_ONLY, MERGE, Message, Slow
from mintflow_realtime.transport.engine_io.polling import PACKETS_A_POLL
from mintflow_realtime.transport.engine_io.session import Session
from tests.transport_client import PATH, POLLING, WEBSOCKET, Node, WebSocket, handshake, serving, until

BIG = 8_000_000
"""More than what the kernel's buffers of both ends take."""


class Peer(WebSocket):
    """A client that reads only when it is told to."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.port)
        self.sid = json.loads(self.read()[1][1:])["sid"]
        self.session: Session = node.engine.sockets[self.sid]

    def messages(self, *, until_text: str | None = None) -> list[str]:
        """Return the messages up to `until_text`, or up to the close frame, which is answered."""
        found: list[str] = []
        while True:
            opcode, text = self.read()
            if opcode == 8:
                self.close_code = text
                self.write("", opcode=8)
                return found
            if text[:1] == "4":
                found.append(text[1:])
                if found[-1] == until_text:
                    return found


def stuffed(session: Session, size: int = 50_000) -> int:
    """Send to a session whose client reads nothing until something waits here; return how many messages."""
    for number in range(1000):
        session.post(Message(f"4fill {number} ".ljust(size, ".")))
        if session.backlog:
            return number + 1
    raise AssertionError("the kernel takes everything")


def nothing_left(node: Node) -> None:
    until(lambda: not node.engine.sockets and not node.engine.poller)
    assert node.engine.direct == {} and len(node.engine.greenlets) == len(node.engine.disconnect_greenlets) == 0
    assert all(not place for place in node.engine.timers._slots.values())


@contextmanager
def peer(**options: Any) -> Iterator[tuple[Node, Peer]]:
    with serving(**options) as node, Peer(node) as client:
        yield node, client


# Writing


def test_what_the_kernel_takes_in_part_arrives_whole_and_in_order() -> None:
    with peer(outbox_bytes=BIG) as (node, client):
        sent = [f"{number} ".ljust(17 + 7919 * number % 60_000, "x") for number in range(200)]
        for text in sent:
            node.engine.send(client.sid, text)
        assert 0 < client.session.backlog < 1 and client.sid not in node.engine.direct
        assert client.messages(until_text=sent[-1]) == sent
        until(lambda: client.session.outbox is None)
        assert client.sid in node.engine.direct, "it goes straight to the kernel again"
        node.engine.send(client.sid, "after")
        assert client.read() == (1, "4after")


def test_a_broadcast_keeps_its_order_where_something_waits() -> None:
    with serving(outbox_bytes=BIG) as node, Peer(node) as slow, Peer(node) as fast:
        count = stuffed(slow.session)
        for number in range(50):
            node.engine.broadcast([slow.sid, "gone", fast.sid], Message(f"4both {number}"))
        expected = [f"both {number}" for number in range(50)]
        assert fast.messages(until_text="both 49") == expected
        assert slow.messages(until_text="both 49")[count:] == expected


def test_bytes_follow_their_text_whatever_the_kernel_takes() -> None:
    with peer(outbox_bytes=BIG) as (_, client):
        count = stuffed(client.session)
        client.session.post(Message("451-with", (b"a" * 70_000,)))
        client.session.post(Message("4end"))
        for _ in range(count):
            client.read()
        assert client.read() == (1, "451-with")
        assert client.read() == (2, "a" * 70_000)
        assert client.read() == (1, "4end")


# Too slow


@pytest.mark.parametrize("policy", [CLOSE, LATEST_ONLY, MERGE])
def test_a_slow_consumer_is_closed_at_once(policy: str) -> None:
    """Row 11: the library holds what it has not sent for as long as it likes."""
    with peer(outbox_bytes=100_000) as (node, client):
        stuffed(client.session, 10_000)
        for number in range(100):
            client.session.post(Message("4" + "x" * 10_000, slow=Slow(policy, f"k{number}")))
        assert client.session.closing
        nothing_left(node)
        assert node.named("disconnect") == ["slow consumer"]
        assert client.at_end()


def test_a_slow_client_that_polls_is_closed_too() -> None:
    with serving(outbox_bytes=10_000) as node:
        session = node.engine.sockets[node.polling_session()]
        for _ in range(11):
            session.post(Message("4" + "x" * 1000))
        until(lambda: node.named("disconnect") == ["slow consumer"])
        nothing_left(node)


def lossy(number: int, key: str = "/logs logs_dropped") -> Message:
    return Message(f"4log {number} ".ljust(1000, "."), slow=Slow(DROP_OLDEST, key))


def logs(messages: list[str]) -> list[int]:
    return [int(text.split()[1]) for text in messages if text.startswith("log ")]


def test_a_client_that_loses_logs_is_told_how_many_once_it_takes_more() -> None:
    told: list[tuple[str, Counter[str]]] = []
    with peer(outbox_bytes=100_000) as (node, client):

        def tell(sid: str, dropped: Counter[str]) -> None:
            told.append((sid, dropped))
            node.engine.send(sid, f"dropped {dropped['/logs logs_dropped']}")

        node.engine.tell_dropped = tell
        stuffed(client.session, 10_000)
        for number in range(500):
            client.session.post(lossy(number))
        gevent.sleep(0.05)
        assert told == [] and not client.session.closing and client.session.backlog <= 1
        client.session.post(Message("4end"))
        heard = client.messages(until_text="end")
        until(lambda: told)
        if not any(text.startswith("dropped") for text in heard):
            heard.append(client.read()[1][1:])
        ((sid, dropped),) = told
        assert sid == client.sid and set(dropped) == {"/logs logs_dropped"}
        seen = logs(heard)
        assert seen == list(range(500 - len(seen), 500)), "the newest, in order"
        assert dropped.total() == 500 - len(seen) > 300
        assert f"dropped {dropped.total()}" in heard


def test_a_client_that_polls_is_told_too() -> None:
    told: list[Counter[str]] = []
    with serving(outbox_bytes=100_000) as node, node.connect() as http:
        sid = node.polling_session()
        node.engine.tell_dropped = lambda sid, dropped: (
            told.append(dropped),
            node.engine.send(sid, f"dropped {dropped.total()}"),
        )
        for number in range(300):
            node.engine.sockets[sid].post(lossy(number))
        heard: list[str] = []
        while not told:
            assert len(heard) < 300
            heard += [one[1:] for one in http.get(f"{PATH}{POLLING}&sid={sid}").body.decode().split("\x1e")]
        assert node.engine.sockets[sid].backlog < 0.5, "while something waits still"
        while not any("dropped" in text for text in heard):
            heard += [one[1:] for one in http.get(f"{PATH}{POLLING}&sid={sid}").body.decode().split("\x1e")]
        seen = logs(heard)
        assert seen == list(range(300 - len(seen), 300)) and told == [{"/logs logs_dropped": 300 - len(seen)}]


def test_a_slow_client_gets_the_last_presence_of_each() -> None:
    with peer(outbox_bytes=100_000) as (node, client):
        stuffed(client.session, 10_000)
        for number in range(5000):
            key = f"user {number % 20}"
            client.session.post(Message(f"4{key} {number} ".ljust(200, "."), slow=Slow(LATEST_ONLY, key)))
        assert not client.session.closing
        client.session.post(Message("4end"))
        last: dict[str, int] = {}
        for text in client.messages(until_text="end"):
            if text.startswith("user "):
                _, user, number, *_ = text.split()
                assert last.get(user, -1) < int(number), "in order"
                last[user] = int(number)
        assert last == {str(number % 20): number for number in range(4980, 5000)}
        assert node.named("disconnect") == []


def test_a_slow_client_gets_the_whole_text_of_a_stream_in_fewer_chunks() -> None:
    def merge(older: str, newer: str) -> str | None:
        text = merged_packets(older[1:], newer[1:])
        return None if text is None else "4" + text

    with peer(outbox_bytes=100_000) as (node, client):
        node.engine.merge = merge
        stuffed(client.session, 10_000)
        words = [f"word{number} " for number in range(2000)]
        for number, word in enumerate(words):
            payload = {"requestId": "r", "chunk": word, "index": number, "timestamp": "t"}
            text = "42/ai," + json.dumps(["ai_stream_chunk", payload])
            client.session.post(Message(text, slow=Slow(MERGE, "/ai r")))
        assert not client.session.closing
        client.session.post(Message("4end"))
        chunks = [
            json.loads(text[text.index("[") :])[1] for text in client.messages(until_text="end") if "ai_stream" in text
        ]
        assert "".join(chunk["chunk"] for chunk in chunks) == "".join(words)
        assert chunks[-1]["index"] == 1999 and len(chunks) < 1900


# Ends


@pytest.mark.parametrize(("going_away", "code"), [(False, "1000"), (True, "1001")])
@pytest.mark.parametrize("waiting", [False, True])
def test_what_waits_is_sent_before_the_close_frame(going_away: bool, code: str, waiting: bool) -> None:
    with peer(outbox_bytes=BIG) as (node, client):
        count = stuffed(client.session) if waiting else 0
        node.engine.send(client.sid, "last")
        node.engine.close_transport(client.sid, "drained", going_away=going_away)
        node.engine.send(client.sid, "too late")
        heard = client.messages()
        assert heard[count:] == ["last"] and client.close_code == code
        assert client.at_end(0.5)
        nothing_left(node)
        assert node.named("disconnect") == ["drained"]


def test_a_full_outbox_still_says_its_end() -> None:
    with peer(outbox_bytes=20_000) as (node, client):
        stuffed(client.session, 10_000)
        outbox = client.session.outbox
        while outbox and outbox.size <= 20_000 - 100:
            client.session.post(Message("4".ljust(98, ".")))
        assert not client.session.closing and 20_000 - outbox.size < 100
        node.engine.close_transport(client.sid, "drained", going_away=True)
        client.messages()
        assert client.close_code == "1001" and client.at_end(0.5)


def test_a_client_that_takes_nothing_is_ended_within_the_time_to_linger() -> None:
    with peer(outbox_bytes=BIG) as (node, client):
        stuffed(client.session)
        began = monotonic()
        node.engine.close_transport(client.sid, "drained")
        until(lambda: not node.engine.sockets)
        assert monotonic() - began < 0.5, "its handlers have run by then"
        nothing_left(node)
        assert 0.8 < monotonic() - began < 1.8


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (struct.pack("!H", 1000) + b"bye", "1000"),
        (struct.pack("!H", 1001), "1001"),
        (struct.pack("!H", 3999), "3999"),
        (b"", ""),
        (b"\x03", "1002 A close code has two bytes"),
        (struct.pack("!H", 1005), "1002 1005 is no close code"),
        (struct.pack("!H", 1000) + b"\xff", "1007 The reason is not UTF-8"),
    ],
)
def test_a_clients_close_is_answered_with_its_code(sent: bytes, code: str) -> None:
    with peer() as (node, client):
        client.write(sent, opcode=8)
        assert client.read() == (8, code)
        right = not code.startswith(("1002 ", "1007 "))
        if not right:
            client.write("", opcode=8)
        assert client.at_end()
        nothing_left(node)
        assert node.named("disconnect") == ["transport close" if right else "transport error"]


@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (1, b"4" + b"x" * 200, "1009"),
        (1, b"4\xff", "1007"),
        (3, b"", "1002"),
        (0, b"", "1002"),
        (1, b"garbage", "1008"),
        (1, b"", "1008"),
        (1, b"b!!!", "1008"),
    ],
)
def test_what_is_wrong_is_said_in_the_close_frame(opcode: int, payload: bytes, code: str) -> None:
    with peer(max_http_buffer_size=200) as (node, client):
        client.write(payload, opcode=opcode)
        closed, said = client.read()
        assert (closed, said.split()[0]) == (8, code)
        client.write("", opcode=8)
        assert client.at_end(0.5)
        nothing_left(node)
        assert node.named("disconnect") == ["transport error"]


def test_no_close_frame_lands_inside_a_message_that_is_half_sent() -> None:
    """Row 20."""
    with peer(outbox_bytes=BIG) as (node, client):
        client.session.post(Message("4" + "x" * 7_000_000))
        assert client.session.outbox is not None
        client.write(b"4\xff")
        until(lambda: not node.engine.sockets)
        received = b""
        while chunk := client.socket.recv(65_536):
            received += chunk
        assert received[:2] == b"\x81\x7f" and set(received[10:]) <= {ord("x"), ord("4")}
        nothing_left(node)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("waiting", [False, True])
def test_a_client_that_goes_away_leaves_nothing(reset: bool, waiting: bool) -> None:
    with peer(outbox_bytes=BIG) as (node, client):
        if waiting:
            stuffed(client.session)
        if reset:
            client.socket.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        nothing_left(node)
        assert node.named("disconnect") == ["transport close"]
        node.engine.send(client.sid, "nobody")


def test_each_end_is_told_once() -> None:
    with peer() as (node, client):
        node.engine.close_transport(client.sid, "one")
        node.engine.close_transport(client.sid, "two")
        client.close()
        nothing_left(node)
        assert node.named("disconnect") == ["one"]


# Reading


def test_a_paused_session_reads_nothing_and_loses_nothing() -> None:
    with peer() as (node, client):
        client.session.pause()
        client.session.pause()
        for number in range(100):
            client.write(f"4{number}")
        client.write("now", opcode=9)
        gevent.sleep(0.05)
        assert node.named("message") == []
        client.session.resume()
        gevent.sleep(0.05)
        assert node.named("message") == [], "paused twice"
        client.session.resume()
        assert client.read() == (10, "now")
        assert node.named("message") == [str(number) for number in range(100)]


def test_a_message_may_pause_the_reading_of_what_came_with_it() -> None:
    with peer() as (node, client):
        node.engine.on(
            "message", lambda sid, text: (node.events.append(("message", sid, text)), client.session.pause())
        )
        for number in range(5):
            client.write(f"4{number}")
        for number in range(1, 6):
            until(lambda number=number: len(node.named("message")) == number)
            gevent.sleep(0.02)
            assert node.named("message") == [str(one) for one in range(number)]
            client.session.resume()


def test_a_paused_polling_request_goes_on_where_it_stopped() -> None:
    with serving() as node, node.connect() as http:
        sid = node.polling_session()
        session = node.engine.sockets[sid]
        node.engine.on("message", lambda sid, text: (node.events.append(("message", sid, text)), session.pause()))
        http.send("POST", f"{PATH}{POLLING}&sid={sid}", "4a\x1e4b")
        until(lambda: node.named("message") == ["a"])
        gevent.sleep(0.05)
        assert node.named("message") == ["a"]
        session.resume()
        until(lambda: node.named("message") == ["a", "b"])
        session.resume()
        assert http.response().body == b"ok"


def test_the_heartbeat_waits_while_reading_is_paused() -> None:
    with peer(ping_interval=0.1, ping_timeout=0.1) as (node, client):
        client.session.pause()
        assert client.read() == (1, "2")
        client.write("3")
        gevent.sleep(0.5)
        assert node.named("disconnect") == []
        client.session.resume()
        assert client.read() == (1, "2")
        client.write("3")
        assert client.read() == (1, "2")


def test_a_silent_client_ends_after_interval_and_timeout() -> None:
    with peer(ping_interval=0.3, ping_timeout=0.4) as (node, client):
        began = monotonic()
        assert client.read() == (1, "2")
        # The ping at most a step early, the end at most a step late.
        assert 0.2 < monotonic() - began < 0.5
        client.write("4words are no pong")
        assert client.read() == (8, "1000")
        assert 0.6 < monotonic() - began < 1.1
        assert node.named("disconnect") == ["ping timeout"]


def test_pongs_without_a_ping_do_not_keep_a_client() -> None:
    with peer(ping_interval=0.2, ping_timeout=0.2) as (node, client):
        for _ in range(10):
            client.write("3")
        assert client.read() == (1, "2")
        assert client.read()[0] == 8
        assert node.named("disconnect") == ["ping timeout"]


def test_pings_of_a_client_are_answered_in_their_place() -> None:
    with peer(outbox_bytes=BIG) as (_, client):
        client.write("a", opcode=9)
        assert client.read() == (10, "a")
        count = stuffed(client.session)
        for number in range(1000):
            client.write(str(number), opcode=9)
        until(lambda: len(client.session.outbox._waiting) >= 1000)
        client.session.post(Message("4end"))
        heard = [client.read() for _ in range(count + 1001)]
        assert heard[count:] == [(10, str(number)) for number in range(1000)] + [(1, "4end")]


# Upgrades


@pytest.mark.parametrize("polling", [False, True])
def test_nothing_is_lost_or_told_twice_in_an_upgrade(polling: bool) -> None:
    with serving(outbox_bytes=BIG) as node, node.connect() as http:
        sid = handshake(http.get(PATH + POLLING))["sid"]
        session, count = node.engine.sockets[sid], 0

        def send(many: int) -> None:
            nonlocal count
            for _ in range(many):
                node.engine.send(sid, str(count))
                count += 1

        heard: list[str] = []
        send(PACKETS_A_POLL + 3)
        heard += [one[1:] for one in http.get(f"{PATH}{POLLING}&sid={sid}").body.decode().split("\x1e")]
        assert len(heard) == PACKETS_A_POLL
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            ws.write("2probe")
            assert ws.read() == (1, "3probe")
            send(5)
            if polling:
                http.send("GET", f"{PATH}{POLLING}&sid={sid}")
                answer = http.response().body.decode().split("\x1e")
                heard += [one[1:] for one in answer]
                http.send("GET", f"{PATH}{POLLING}&sid={sid}")
                until(lambda: session.polling and session.polling.waiting)
            send(7 if not polling else 0)
            ws.write("5")
            if polling:
                assert http.response().body == b"6"
            until(lambda: session.polling is None)
            send(3)
            ws.write("4up")
            until(lambda: node.named("message") == ["up"])
            while len(heard) < count:
                opcode, text = ws.read()
                assert opcode == 1 and text[0] == "4"
                heard.append(text[1:])
            assert heard == [str(number) for number in range(count)]
            assert node.engine.transport(sid) == "websocket"
            node.engine.close_transport(sid, "end")
            assert ws.read() == (8, "1000")
            ws.write("", opcode=8)
        nothing_left(node)


def test_a_session_that_ends_in_an_upgrade_takes_the_probe_along() -> None:
    with serving() as node:
        sid = node.polling_session()
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            ws.write("2probe")
            assert ws.read() == (1, "3probe")
            node.engine.close_transport(sid, "revoked")
            assert ws.read() == (8, "1000")
            ws.write("", opcode=8)
            assert ws.at_end()
        nothing_left(node)
        assert node.named("disconnect") == ["revoked"]


def test_a_session_is_paused_across_an_upgrade() -> None:
    with serving() as node:
        sid = node.polling_session()
        session = node.engine.sockets[sid]
        session.pause()
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            ws.write("2probe")
            assert ws.read() == (1, "3probe")
            ws.write("5")
            ws.write("4later")
            until(lambda: session.polling is None)
            gevent.sleep(0.05)
            assert node.named("message") == []
            session.resume()
            until(lambda: node.named("message") == ["later"])


def test_a_probe_is_pinged_like_any_websocket() -> None:
    with serving() as node:
        sid = node.polling_session()
        with WebSocket(node.port, f"{PATH}{WEBSOCKET}&sid={sid}") as ws:
            ws.write("x", opcode=9)
            assert ws.read() == (10, "x")


def test_all_may_end_at_once_and_so_many_handlers_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A greenlet each for 20,000 would be 320 MB, and what each asks of Redis would come too late."""
    monkeypatch.setattr(mintflow_realtime.transport.engine_io.server, "MAX_DISCONNECT_HANDLERS", 8)
    running, most, left = [0], [0], []

    def disconnected(sid: str, reason: str) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gevent.sleep(0.005)
        running[0] -= 1
        left.append(sid)

    with serving() as node:
        node.engine.on("disconnect", disconnected)
        clients = [Peer(node) for _ in range(50)]
        for client in clients:
            client.close()
        until(lambda: len(left) == 50)
        assert most == [8] and set(left) == {client.sid for client in clients}
        nothing_left(node)
