"""What is sent together over real sockets: in order, in one piece, and with what a slow client's outbox means."""

import random
from collections import Counter
from collections.abc import Callable

from mintflow_realtime.transport.engine_io.message import DROP_OLDEST, Message, Slow
from tests.transport_client import PATH, POLLING, Http, Node, handshake, serving, until
from tests.unit.test_transport_session import BIG, Peer, nothing_left, peer, stuffed


def counted(node: Node, sid: str) -> list[int]:
    """Count the bytes of each `send` to a session from now on."""
    sizes: list[int] = []
    send = node.engine.direct[sid]

    def counting(frames: bytes) -> int:
        sizes.append(len(frames))
        return send(frames)

    node.engine.direct[sid] = counting
    return sizes


def test_messages_that_are_sent_together_are_one_piece_a_connection() -> None:
    with serving() as node, Peer(node) as first, Peer(node) as second:
        sizes = {client.sid: counted(node, client.sid) for client in (first, second)}
        with node.engine.cork:
            for number in range(10):
                node.engine.broadcast([first.sid, "gone", second.sid], Message(f"4all {number}"))
                if number == 4:
                    node.engine.send(second.sid, "own")
            assert sizes[first.sid] == [], "they wait for each other"
        assert [len(found) for found in sizes.values()] == [1, 1]
        expected = [f"all {number}" for number in range(10)]
        assert first.messages(until_text="all 9") == expected
        assert second.messages(until_text="all 9") == [*expected[:5], "own", *expected[5:]]
        node.engine.broadcast([first.sid], Message("4after"))
        assert first.read() == (1, "4after") and len(sizes[first.sid]) == 2


def test_one_message_alone_and_none_at_all() -> None:
    with peer() as (node, client):
        with node.engine.cork:
            pass
        with node.engine.cork:
            node.engine.broadcast([client.sid], Message("4one"))
        assert client.read() == (1, "4one")


def test_attachments_stay_behind_their_text() -> None:
    with peer() as (node, client):
        with node.engine.cork:
            node.engine.broadcast([client.sid], Message("451-with", (b"bytes",)))
            node.engine.broadcast([client.sid], Message("4end"))
        assert [client.read() for _ in range(3)] == [(1, "451-with"), (2, "bytes"), (1, "4end")]


def test_what_the_kernel_takes_in_part_is_cut_between_messages_or_within_one() -> None:
    with peer(outbox_bytes=BIG) as (node, client):
        chance = random.Random(1)
        sent = [f"{number} ".ljust(chance.randrange(1, 60_000), "x") for number in range(300)]
        for first in range(0, 300, 12):
            with node.engine.cork:
                for text in sent[first : first + 12]:
                    node.engine.broadcast([client.sid], Message("4" + text))
        assert client.session.backlog > 0
        assert client.messages(until_text=sent[-1]) == sent
        until(lambda: client.session.outbox is None)


def test_each_cut_of_messages_that_were_sent_together() -> None:
    """By a kernel that takes exactly so many bytes, or none."""
    texts = ["4a", "4bc", "4" + "d" * 200, "4e"]
    whole = sum(len(Message(text).frame) for text in texts)
    for taken in range(whole):
        with peer() as (node, client):
            send = node.engine.direct[client.sid]

            def partly(frames: bytes, send: Callable[[bytes], int] = send, taken: int = taken) -> int:
                if not taken:
                    raise BlockingIOError
                return send(frames[:taken])

            node.engine.direct[client.sid] = partly
            with node.engine.cork:
                for text in texts:
                    node.engine.broadcast([client.sid], Message(text))
            assert [client.read()[1] for _ in texts] == texts


def test_a_slow_client_keeps_what_its_policy_lets_go_and_one_by_one() -> None:
    with peer(outbox_bytes=100_000) as (node, client):
        dropped: Counter[str] = Counter()
        node.engine.tell_dropped = lambda sid, counts: dropped.update(counts)
        count = stuffed(client.session)
        with node.engine.cork:
            for number in range(500):
                text = f"4log {number} ".ljust(1000, ".")
                node.engine.broadcast([client.sid], Message(text, slow=Slow(DROP_OLDEST, "logs")))
        assert client.session.outbox is not None and client.session.outbox.dropped["logs"] > 300
        last = "log 499 ".ljust(999, ".")
        heard = client.messages(until_text=last)[count:]
        until(lambda: bool(dropped))
        assert len(heard) + dropped["logs"] == 500 and heard[-1] == last


def test_a_slow_consumer_is_closed_and_the_others_have_all() -> None:
    with serving(outbox_bytes=100_000) as node, Peer(node) as slow, Peer(node) as fast:
        stuffed(slow.session)
        with node.engine.cork:
            for number in range(200):
                node.engine.broadcast([slow.sid, fast.sid], Message(f"4{number} ".ljust(1000, ".")))
        last = "199 ".ljust(999, ".")
        assert len(fast.messages(until_text=last)) == 200
        until(lambda: slow.sid not in node.engine.sockets)
    nothing_left(node)


def test_a_connection_that_ends_meanwhile_gets_nothing_and_costs_nobody_anything() -> None:
    with serving() as node, Peer(node) as left, Peer(node) as stays:
        with node.engine.cork:
            node.engine.broadcast([left.sid, stays.sid], Message("4one"))
            node.engine.broadcast([left.sid, stays.sid], Message("4two"))
            left.session.close()
        assert stays.messages(until_text="two") == ["one", "two"]
        assert left.messages() == []
    nothing_left(node)


def test_what_fails_meanwhile_does_not_hold_up_what_was_said() -> None:
    with peer() as (node, client):
        try:
            with node.engine.cork:
                node.engine.broadcast([client.sid], Message("4one"))
                raise LookupError
        except LookupError:
            pass
        assert client.read() == (1, "4one")
        node.engine.broadcast([client.sid], Message("4two"))
        assert client.read() == (1, "4two")


def test_a_polling_client_has_all_with_its_next_request() -> None:
    with serving() as node, Http(node.port) as client:
        sid = handshake(client.get(PATH + POLLING))["sid"]
        with node.engine.cork:
            for number in range(3):
                node.engine.broadcast([sid], Message(f"4{number}"))
        assert client.get(f"{PATH}{POLLING}&sid={sid}").body == b"40\x1e41\x1e42"
