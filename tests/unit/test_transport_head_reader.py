"""The reader of request heads: whole heads, however they arrive, and none that are too long or too slow."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket

from mintflow_realtime.transport.http.head_reader import HEAD_BYTES, HeadReader, HeadTooLong, HeadTooSlow
from tests.transport_client import until

HEAD = b"GET /socket.io/?sid=abc HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


@pytest.mark.parametrize("split", range(1, len(HEAD)))
def test_a_head_split_anywhere_is_read_whole_and_left_in_the_buffer(pair: tuple[Any, Any], split: int) -> None:
    near, far = pair
    reader = HeadReader(near)
    far.sendall(HEAD[:split])
    filling = gevent.spawn(reader.fill_head)
    until(lambda: len(reader.pending()) == split)
    far.sendall(HEAD[split:])
    assert filling.get(timeout=2) == HEAD
    assert reader.pending() == HEAD


def test_what_follows_a_head_stays_for_the_next_request(pair: tuple[Any, Any]) -> None:
    near, far = pair
    reader = HeadReader(near)
    second = b"POST / HTTP/1.1\nContent-Length: 3\n\nabc"
    far.sendall(HEAD + second)
    assert reader.fill_head() == HEAD
    assert reader.pending() == HEAD + second
    assert [reader.readline(8192) for _ in range(3)] == HEAD.splitlines(keepends=True)
    assert reader.fill_head() == second[:-3]
    for _ in range(3):
        reader.readline()
    assert reader.read(3) == b"abc"


def test_bytes_read_by_another_worker_come_first(pair: tuple[Any, Any]) -> None:
    near, far = pair
    reader = HeadReader(near, HEAD[:10])
    far.sendall(HEAD[10:])
    assert reader.fill_head() == HEAD


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_of_over_16_kb_is_refused(pair: tuple[Any, Any], end: bytes) -> None:
    near, far = pair
    start = b"GET / HTTP/1.1\r\nX: "
    far.sendall(start + b"x" * (HEAD_BYTES - len(start) - len(end) + 1) + end)
    with pytest.raises(HeadTooLong):
        HeadReader(near).fill_head()


def test_a_head_of_16_kb_is_taken(pair: tuple[Any, Any]) -> None:
    near, far = pair
    head = b"GET / HTTP/1.1\r\nX: "
    head += b"x" * (HEAD_BYTES - len(head) - 4) + b"\r\n\r\n"
    far.sendall(head)
    assert HeadReader(near).fill_head() == head


def test_a_head_sent_drop_by_drop_ends_at_its_deadline(pair: tuple[Any, Any]) -> None:
    near, far = pair

    def drip() -> None:
        while True:
            far.sendall(b"x")
            gevent.sleep(0.02)

    dripping = gevent.spawn(drip)
    started = monotonic()
    with pytest.raises(HeadTooSlow):
        HeadReader(near).fill_head(within=0.2)
    dripping.kill()
    assert 0.2 <= monotonic() - started < 1.0


def test_an_idle_connection_is_given_up_without_an_error(pair: tuple[Any, Any]) -> None:
    reader = HeadReader(pair[0])
    assert reader.fill_head(idle=0.05) is None
    assert reader.closed


@pytest.mark.parametrize("sent", [b"", HEAD[:20]])
def test_a_client_that_leaves_ends_the_file(pair: tuple[Any, Any], sent: bytes) -> None:
    near, far = pair
    far.sendall(sent)
    far.close()
    assert HeadReader(near).fill_head() is None


def test_reading_is_like_a_file(pair: tuple[Any, Any]) -> None:
    near, far = pair
    reader = HeadReader(near, b"one\ntwo")
    far.sendall(b" and\nrest")
    far.close()
    assert reader.read(0) == b""
    assert reader.readline(2) == b"on"
    assert reader.readline(2) == b"e\n"
    assert reader.readline(100) == b"two and\n"
    assert reader.read(2) == b"re"
    assert reader.read(100) == b"st"
    assert reader.read() == reader.readline() == b""


def test_a_body_that_stops_coming_ends(pair: tuple[Any, Any]) -> None:
    near, far = pair
    reader = HeadReader(near)
    reader.timeout = 0.05
    far.sendall(b"abc")
    assert reader.read(10) == b"abc"
    assert reader.gone


def test_the_watch_sees_a_client_leave_and_keeps_what_it_sent_ahead(pair: tuple[Any, Any]) -> None:
    near, far = pair
    reader = HeadReader(near)
    left: list[bool] = []
    stop = reader.watch_peer(lambda: left.append(True))
    far.sendall(HEAD)
    until(lambda: reader.pending() == HEAD)
    assert not left
    far.close()
    until(lambda: left)
    stop()
    assert reader.fill_head() == HEAD
