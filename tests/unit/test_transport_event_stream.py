"""A stream of events: bounded, whole chunks, one end."""

from collections.abc import Iterator

import pytest
from gevent import socket as gevent_socket

from mintflow_realtime.transport.http.event_stream import EventStream
from mintflow_realtime.transport.http.streams import Streams
from mintflow_realtime.transport.loop.kernel_socket import duplicate
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel
from tests.transport_client import until

LIMIT = 50_000


class Pair:
    """A stream and its reader."""

    def __init__(self, chunked: bool = True) -> None:
        self.poller, self.timers, self.ends = Poller(), TimerWheel(), 0
        self.streams = Streams(self.poller, self.timers, LIMIT)
        ours, self.reader = gevent_socket.socketpair()
        self.reader.settimeout(5)
        self.stream: EventStream = self.streams.make(
            duplicate(ours), chunked, quiet=lambda: b":\n\n", missed=lambda count: b"lost %d" % count, ended=self._ended
        )
        ours.close()

    def _ended(self) -> None:
        self.ends += 1

    def fill(self, may_be_lost: bool) -> int:
        """Send until something waits; return how many."""
        sent = 0
        while self.stream._waiting is None:
            self.stream.send(b"f" * 10_000, may_be_lost)
            sent += 1
        return sent

    def rest(self) -> bytes:
        read = b""
        while chunk := self.reader.recv(65_536):
            read += chunk
        return read

    def close(self) -> None:
        self.stream.abort()
        self.reader.close()
        self.timers.close()
        self.poller.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()
    assert made.ends == 1 and not len(made.streams)


def test_events_are_chunks_and_the_end_is_the_last(pair: Pair) -> None:
    pair.stream.send(b"one")
    pair.stream.finish()
    pair.stream.send(b"two")
    assert pair.rest() == b"3\r\none\r\n0\r\n\r\n"


def test_an_abort_has_no_last_chunk(pair: Pair) -> None:
    pair.stream.send(b"one")
    pair.stream.abort()
    assert pair.rest() == b"3\r\none\r\n"


def test_without_chunks_events_are_bare() -> None:
    pair = Pair(chunked=False)
    pair.stream.send(b"one")
    pair.stream.finish()
    assert pair.rest() == b"one"
    pair.close()


def test_silence_is_filled(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.event_stream.QUIET_SECONDS", 0.05)
    pair.stream.send(b"one")
    assert pair.reader.recv(8) == b"3\r\none\r\n" and pair.reader.recv(100) == b"3\r\n:\n\n\r\n"


def test_the_oldest_are_lost_and_counted(pair: Pair) -> None:
    pair.fill(True)
    for number in range(100):
        pair.stream.send(b"%03d" % number + b"x" * 1000, True)
    assert pair.stream.open and pair.stream._size <= LIMIT
    read = b""
    while b"lost " not in read:
        read += pair.reader.recv(65_536)
    assert b"099x" in read and b"000x" not in read
    lost = int(read.partition(b"lost ")[2].partition(b"\r")[0])
    assert lost + read.count(b"xxx\r\n") >= 100 and pair.stream.open


def test_what_must_not_be_lost_ends_it_but_what_was_asked_for(pair: Pair) -> None:
    pair.fill(False)
    for _ in range(100):
        pair.stream.send(b"a" * 1000, asked=True)
    assert pair.stream.open and not pair.stream.has_room
    pair.stream.send(b"b" * 1000)
    assert not pair.stream.open


def test_who_takes_nothing_for_long_is_gone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.event_stream.QUIET_SECONDS", 0.05)
    pair.fill(False)
    until(lambda: not pair.stream.open)


def test_a_reader_that_leaves_ends_it(pair: Pair) -> None:
    pair.reader.close()
    until(lambda: pair.ends == 1)


def test_it_lives_for_so_long(pair: Pair) -> None:
    pair.stream.live_for(0.05)
    assert pair.rest() == b"0\r\n\r\n"


def test_a_finished_one_that_is_not_read_ends_all_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.event_stream.LINGER_SECONDS", 0.05)
    pair.fill(False)
    pair.stream.finish()
    until(lambda: pair.ends == 1)
