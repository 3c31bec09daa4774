"""One epoll for all: who is told what, that a failure costs one connection alone, and that nobody is starved."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import socket as gevent_socket

from mintflow_realtime.transport.loop import poller as poller_module
from mintflow_realtime.transport.loop.kernel_socket import duplicate
from mintflow_realtime.transport.loop.poller import READ, WRITE, Poller
from tests.transport_client import until

pytestmark = pytest.mark.usefixtures("no_leaks")


class End:
    """One end of a connection; `log` is what it was told, and what it read."""

    def __init__(self, poller: Poller, fails: bool = False) -> None:
        near, self.far = gevent_socket.socketpair()
        self.near: Any = duplicate(near)
        near.close()
        self.poller, self.fails, self.log = poller, fails, []
        poller.add(self.near.fileno(), self)

    def ready(self, events: int) -> None:
        if self.fails:
            raise LookupError("a fault")
        self.log.append(self.near.recv(100) if events & ~WRITE else "writable")

    def broken(self) -> None:
        self.log.append("broken")
        self.close()

    def close(self) -> None:
        if self.near.fileno() >= 0:
            self.poller.remove(self.near.fileno())
            self.near.close()
        self.far.close()


@pytest.fixture
def poller(no_leaks: None) -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


def test_each_is_told_of_its_own(poller: Poller) -> None:
    ends = [End(poller) for _ in range(5)]
    assert len(poller) == 5
    for number, end in enumerate(ends):
        end.far.sendall(str(number).encode())
    until(lambda: all(end.log for end in ends))
    assert [end.log for end in ends] == [[str(number).encode()] for number in range(5)]
    for end in ends:
        end.close()
    assert len(poller) == 0


def test_events_are_told_as_asked_for(poller: Poller) -> None:
    end = End(poller)
    poller.change(end.near.fileno(), WRITE)
    end.far.sendall(b"x")
    until(lambda: end.log)
    assert set(end.log) == {"writable"}
    poller.change(end.near.fileno(), 0)
    gevent.sleep(0.01)
    told = len(end.log)
    gevent.sleep(0.02)
    assert len(end.log) == told
    poller.change(end.near.fileno(), READ)
    until(lambda: b"x" in end.log)
    end.far.close()
    until(lambda: end.log[-1] == b"")
    end.close()


def test_one_that_fails_is_ended_and_the_others_go_on(poller: Poller, caplog: pytest.LogCaptureFixture) -> None:
    failing, other = End(poller, fails=True), End(poller)
    failing.far.sendall(b"x")
    other.far.sendall(b"y")
    until(lambda: other.log and failing.log)
    assert (failing.log, other.log) == (["broken"], [b"y"])
    assert "a fault" in caplog.text and len(poller) == 1
    other.close()


def test_one_that_is_removed_in_the_same_turn_is_told_nothing(poller: Poller) -> None:
    ends = [End(poller) for _ in range(10)]

    def end_the_others(this: End) -> None:
        this.log.append("told")
        for end in ends:
            end.close()

    for end in ends:
        end.ready = lambda events, end=end: end_the_others(end)  # type: ignore[method-assign]
        end.far.sendall(b"x")
    until(lambda: any(end.log for end in ends))
    gevent.sleep(0.01)
    assert sum(len(end.log) for end in ends) == 1 and len(poller) == 0
    poller.remove(10_000)


def test_of_many_that_are_always_ready_none_is_starved(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "MOST_READY", 3)
    ends = [End(poller) for _ in range(20)]
    for end in ends:
        poller.change(end.near.fileno(), WRITE)
    until(lambda: all(len(end.log) > 5 for end in ends))
    assert max(len(end.log) for end in ends) < 5 * min(len(end.log) for end in ends)
    for end in ends:
        end.close()


def test_a_closed_one_is_opened_again_when_it_is_used(poller: Poller) -> None:
    poller.close()
    End(poller).close()
    poller.close()
    end = End(poller)
    end.far.sendall(b"x")
    until(lambda: end.log == [b"x"])
    end.close()
