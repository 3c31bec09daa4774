"""Faults of python-engineio and gevent-websocket on the wire: each scene shows one on the library, and none here.

Rows are those of docs/library-faults.md.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.heartbeats import Silent
from tests.conformance.wire import (
    BINARY,
    PATH,
    TEXT,
    Fault,
    Frame,
    Peer,
    Polling,
    Received,
    WebSocket,
    close,
    text,
)
from tests.measured import cpu, memory
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, stopping
from tests.stock_server import Stock

OUTBOX = 8_000_000
MAX = 1_000_000
Server = Node | Stock


@contextlib.contextmanager
def _ours(redis: PrivateRedis, prefix: str, **env: str) -> Iterator[Node]:
    node = Node(
        application="tests.integration.apps.conformance:application",
        REDIS_URL=redis.url,
        REDIS_PREFIX=prefix,
        SOCKET_RATE_LIMIT="0",
        DRAIN_SECONDS="0",
        **env,
    )
    with stopping(node):
        yield node.wait_ready()
        assert "Traceback" not in node.text(), node.text()[node.text().index("Traceback") :][:3000]


@pytest.fixture(scope="module")
def ours(shared_redis: PrivateRedis) -> Iterator[Node]:
    with _ours(shared_redis, "ours", SOCKET_OUTBOX_BYTES=str(OUTBOX)) as node:
        yield node


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    server = Stock()
    with stopping(server):
        yield server


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    Peer.patience = 3.0
    yield
    Peer.patience = 3.0


def in_room(port: int, room: str, **options: Any) -> WebSocket:
    client = WebSocket(port, **options).joined("/")
    client.send(text(f'421["room","{room}"]'))
    assert client.next().content == "431[]"
    return client


def test_row_11_what_a_client_does_not_read_is_bounded(ours: Node, stock: Stock) -> None:
    def growth(server: Server) -> int:
        (pid,) = server.workers()
        with in_room(server.port, "flood", receive_buffer=4096), WebSocket(server.port).joined("/") as flooder:
            held = memory(pid)
            flooder.send(text('421["room_bytes","flood",100000,400]'))
            assert flooder.next(30).content == "431[]"
            time.sleep(0.5)
            return memory(pid) - held

    assert growth(ours) < OUTBOX + 4_000_000
    assert growth(stock) > 25_000_000


def test_row_12_closing_a_websocket_ends_its_connection(ours: Node, stock: Stock) -> None:
    def ends(server: Server) -> bool:
        # It answers no close frame.
        with WebSocket(server.port).joined("/") as client:
            client.send(text('42["cut_me"]'))
            return client.at_end()

    assert ends(ours)
    Peer.patience = 1.5
    assert not ends(stock)


@pytest.mark.parametrize(
    "packets",
    [
        ['451-["echo",{"_placeholder":true,"num":5}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":"0"}]', b"x"],
        ['4511-["echo",{"_placeholder":true,"num":0}]'],
        ['459999999999-["echo",{"_placeholder":true,"num":0}]'],
    ],
    ids=["beyond", "no number", "eleven attachments", "ten digits of attachments"],
)
def test_row_13_attachments_are_few_and_a_bad_placeholder_swallows_nothing(
    ours: Node, stock: Stock, packets: list[str | bytes]
) -> None:
    def swallows(server: Server) -> bool:
        """Tell whether the connection stays open and is never answered again."""
        with WebSocket(server.port).joined("/") as client:
            for packet in packets:
                client.send(text(packet) if isinstance(packet, str) else bytes(Frame(BINARY, packet)))
            client.send(text('427["echo","answer me"]'))
            try:
                return client.next(1.0).kind not in ("close", "end")
            except AssertionError:
                return True

    assert not swallows(ours)
    assert swallows(stock)


def test_row_14_the_limit_holds_before_a_message_is_read(ours: Node, stock: Stock) -> None:
    def pour(client: WebSocket) -> None:
        with contextlib.suppress(OSError):
            client.socket.sendall(b"x" * (12 * MAX))

    def outcome(server: Server) -> tuple[Received | None, int]:
        (pid,) = server.workers()
        with WebSocket(server.port).joined("/") as client:
            held = memory(pid)
            client.send(bytes(Frame(TEXT, b"4", declared=1 << 33)))
            threading.Thread(target=pour, args=(client,), daemon=True).start()
            try:
                return client.next(1.5), memory(pid) - held
            except AssertionError:
                return None, memory(pid) - held

    said, held = outcome(ours)
    assert said == Received("close", 1009) and held < MAX
    said, held = outcome(stock)
    assert said is None and held > 8 * MAX


def test_row_15_unmasking_and_checking_a_megabyte_is_quick(ours: Node, stock: Stock) -> None:
    def seconds(server: Server, messages: int) -> float:
        """Return the computing time of one message of nearly a megabyte."""
        (pid,) = server.workers()
        large = text('42["no such event","' + "x" * (MAX - 1000) + '"]')
        with WebSocket(server.port).joined("/") as client:
            assert client.ask("ready") == ["ready"]
            begun = cpu(pid)
            for number in range(messages):
                client.send(large)
                assert client.ask(number) == [number]
            return (cpu(pid) - begun) / messages

    Peer.patience = 20
    slow = seconds(stock, 3)
    quick = seconds(ours, 20)
    assert slow > 0.1
    assert quick < slow / 10 and quick < 0.02


def test_row_19_nobody_runs_the_disconnect_handler_of_another(shared_redis: PrivateRedis) -> None:
    beats = {"SOCKET_PING_INTERVAL": "0.4", "SOCKET_PING_TIMEOUT": "0.4"}

    def longest(server: Server) -> float:
        """Return how long a broadcast to clients that are gone, some noticed and some not, takes at most."""
        silent = [WebSocket(server.port).joined("/leaving") for _ in range(2)]
        sid = 0
        for client in silent:
            client.send(text('42/leaving,1["room","gone"]'))
            assert client.next().content == "43/leaving,1[]"
        # Answers pings whenever it asks.
        with WebSocket(server.port).joined("/leaving") as caster:
            begun, most = time.monotonic(), 0.0
            while time.monotonic() < begun + 2:
                asked = time.monotonic()
                sid += 1
                caster.send(text(f'42/leaving,{sid}["room_bytes","gone",1,1]'))
                while caster.next(10).content != f"43/leaving,{sid}[]":
                    pass
                most = max(most, time.monotonic() - asked)
        for client in silent:
            client.close()
        return most

    server = Stock(**beats)
    with stopping(server):
        assert longest(server) > 0.9
    with _ours(shared_redis, "beats", **beats) as node:
        assert longest(node) < 0.6


def test_row_20_no_frame_lands_inside_another(ours: Node, stock: Stock) -> None:
    def whole(server: Server) -> bool:
        """Tell whether pongs and long events, of which the kernel takes a part at a time, arrive as they were."""
        with in_room(server.port, "long", receive_buffer=4096) as client:
            client.send(text('42["room_bytes","long",900000,8]'))
            with WebSocket(server.port).joined("/") as other:
                for number in range(20):
                    client.send(bytes(Frame(9, b"%d" % number)))
                    assert other.ask(number) == [number]
            came: list[Received] = []
            try:
                while sum(one.kind == "text" for one in came) < 8 or Received("pong", b"19") not in came:
                    came.append(client.next())
            except (Fault, UnicodeDecodeError, AssertionError):
                return False
            events = [one.content for one in came if one.kind == "text"]
            return events == ['42["bytes","' + "x" * 900_000 + '"]'] * 8

    assert whole(ours)
    assert not whole(stock)


def test_row_22_the_heartbeat_is_not_on_the_wall_clock(shared_redis: PrivateRedis) -> None:
    beats = {"SOCKET_PING_INTERVAL": "1", "SOCKET_PING_TIMEOUT": "10"}

    def told(server: Server) -> Received:
        """Return what a client gets that was just pinged when the clock jumps."""
        with Silent(server.port) as client:
            client.next()
            client.send(text("40"))
            client.next()
            client.send(text('421["room","watchers"]'))
            assert client.next().content == "431[]"
            assert client.next() == Received("text", "2")
            with WebSocket(server.port).joined("/") as other:
                other.send(text('421["jump",3600]') + text('422["room_bytes","watchers",1,1]'))
                for _ in range(2):
                    assert other.next().kind == "text"
                return client.next()

    server = Stock(**beats)
    with stopping(server):
        assert told(server) != Received("text", '42["bytes","x"]')
    with _ours(shared_redis, "jump", **beats) as node:
        assert told(node) == Received("text", '42["bytes","x"]')


def test_row_24_a_failed_probe_leaves_polling_as_it_was(ours: Node, stock: Stock) -> None:
    def polled(server: Server) -> list[bytes]:
        """Return what three polls are answered with once an upgrade has failed and an event has been sent."""
        with Polling(server.port).joined("/") as session:
            with WebSocket(server.port, f"{PATH}websocket&sid={session.sid}") as client:
                client.send(text("2probe"))
                assert client.next() == Received("text", "3probe")
                client.send(text("x"))
                assert client.ends()
            assert session.post('427["echo"]').status == 200
            answers = [session.get().body]
            while answers[-1] != b"437[]" and len(answers) < 3:
                answers.append(session.get().body)
            return answers

    assert polled(ours) == [b"437[]"]
    assert polled(stock) == [b"6"] * 3


UNLAWFUL = {
    "an unmasked frame": bytes(Frame(TEXT, b'427["echo"]', masked=False)),
    "a reserved opcode": bytes(Frame(3, b"")) + text('427["echo"]'),
    "a length that is not minimal": bytes(Frame(TEXT, b'427["echo"]', form=64)),
    "no UTF-8 in a close frame": close(1000, b"\xff"),
    "close code 1016": close(1016),
    "close code 999": close(999),
    "a body of one byte in a close frame": bytes(Frame(8, b"\x03")),
}


@pytest.mark.parametrize("name", UNLAWFUL)
def test_row_30_frames_that_break_rfc_6455_end_the_connection_with_its_code(
    ours: Node, stock: Stock, name: str
) -> None:
    def said(server: Server) -> Received:
        with WebSocket(server.port).joined("/") as client:
            client.send(UNLAWFUL[name])
            return client.next()

    lawful = Received("close", 1007 if "UTF-8" in name else 1002)
    assert said(ours) == lawful
    with contextlib.suppress(AssertionError):
        assert said(stock) == lawful
        pytest.fail("the library does it too")
