"""What is measured on one running server. Each section begins and ends without connections."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.harness.cost import cpu_seconds, memory
from bench.harness.loader import Loader, LoadError
from bench.harness.servers import Server

Figures = dict[str, float]
IDLE_CONNECTIONS = 4000
# What Node takes for a connection falls from 400 µs to 130 over the first 3,000.
WARM_CONNECTIONS = 3000
MESSAGE_BYTES = 990_000  # under the limit of all three, a million
SETTLE_SECONDS = 0.3
SETTLE_MOST_SECONDS = 60.0


@dataclass
class Bench:
    """One server, its load generator, and how many times more work than stock it gets: a second of CPU a sample."""

    server: Server
    loader: Loader
    share: float
    figures: Figures = field(default_factory=dict)
    opened: int = 0

    def times(self, stock: int) -> int:
        return max(1, round(stock * self.share))

    def open(self, count: int, **options: Any) -> None:
        self.loader.open(self.server.port, count, **options)
        self.opened += count

    @contextmanager
    def clients(self, count: int, **options: Any) -> Iterator[None]:
        self.open(count, **options)
        yield
        self.loader.do("close")

    def cpu(self, act: Callable[[], Any]) -> tuple[float, Any]:
        """Return the CPU seconds of the server while `act` runs, and what that returned."""
        before = cpu_seconds(self.server.worker)
        done = act()
        return cpu_seconds(self.server.worker) - before, done

    def settle(self) -> None:
        """Let what is left over of the last clients happen before anything is measured."""
        deadline = time.monotonic() + SETTLE_MOST_SECONDS
        while self.cpu(lambda: time.sleep(SETTLE_SECONDS))[0] > 0.05 * SETTLE_SECONDS:
            if time.monotonic() > deadline:
                raise LoadError(f"the server was still busy after {SETTLE_MOST_SECONDS:g} s without anything to do")


def warm(bench: Bench) -> None:
    """Have everything used once: code loaded, compiled, caches filled."""
    for mode in ("polling", "websocket"):
        with bench.clients(50, mode=mode):
            bench.loader.do("broadcast", times=10, burst=20, size=200)
            bench.loader.do("ack", times=20)
            bench.loader.call("ignore", fill=1000)
            bench.loader.call("collect")


def delivery(bench: Bench) -> None:
    """CPU per delivery, in µs, and from a client's request to each client's receipt, in ms: 10,000 deliveries a second.

    A steady rate, because events come singly in life. Back to back, the generator's reads and the kernel's wake-ups
    are shared by many events, and in bursts the servers' own work too: those two are there to compare with.
    """
    with bench.clients(500):
        _steady(bench, 500, 200, events=20, seconds=1)
        done = _steady(bench, 500, 200, events=20, seconds=3)
        bench.figures["latency p50, ms"], bench.figures["latency p99, ms"] = done["p50"], done["p99"]
        _steady(bench, 500, 2000, events=20, seconds=2)
        _back_to_back(bench, 500, bench.times(80))
        _back_to_back(bench, 500, bench.times(8), burst=20)
        bench.loader.do("close", keep=50)
        bench.settle()
        _steady(bench, 50, 200, events=200, seconds=1.5)
        _steady(bench, 50, 200, events=200, seconds=1.5, local=True)
    bench.settle()


def _steady(bench: Bench, clients: int, size: int, *, events: float, seconds: float, local: bool = False) -> Figures:
    """Have one event after the other sent to everybody; the request for it, and its ack, are in the figure."""
    cpu, done = bench.cpu(partial(bench.loader.do, "rate", rate=events, seconds=seconds, size=size, local=local))
    name = f"delivery {clients} x {size} B" + (", no queue" if local else "")
    bench.figures[f"{name}, µs"] = cpu / done["deliveries"] * 1e6
    figures: Figures = done
    return figures


def _back_to_back(bench: Bench, clients: int, times: int, burst: int = 1) -> None:
    cpu, done = bench.cpu(partial(bench.loader.do, "broadcast", times=times, burst=burst, size=200))
    name = f"bursts of {burst}" if burst > 1 else "back to back"
    bench.figures[f"delivery {clients} x 200 B, {name}, µs"] = cpu / done["deliveries"] * 1e6


def ack(bench: Bench) -> None:
    """CPU per ack round trip, in µs: 100 clients, one in flight each, at most 2,000 a second; then without a pause."""
    with bench.clients(100):
        bench.loader.do("ack", times=30)
        cpu, done = bench.cpu(partial(bench.loader.do, "ack", times=50, pause=50))
        bench.figures["ack, µs"] = cpu / done["acks"] * 1e6
        cpu, done = bench.cpu(partial(bench.loader.do, "ack", times=bench.times(50)))
        bench.figures["ack, back to back, µs"] = cpu / done["acks"] * 1e6
    bench.settle()


def connect(bench: Bench) -> None:
    """CPU per connection made, in µs, its namespace's CONNECT included."""
    for mode, name, stock_count, before in (
        ("websocket", "WebSocket", 400, max(0, WARM_CONNECTIONS - bench.opened)),
        ("polling", "polling, upgrade", 200, 500),
    ):
        if before:
            bench.open(before, mode=mode, concurrency=50)
            bench.loader.do("close")
        if bench.server.name != "node":
            # What closed connections have left to Python's collector is not these connections' cost. Node's runs by
            # itself; forced, it would throw compiled code away, and double the figure.
            with bench.clients(1):
                bench.loader.call("collect")
        bench.settle()
        count = bench.times(stock_count)
        cpu, _ = bench.cpu(partial(bench.open, count, mode=mode, concurrency=50))
        bench.figures[f"connection {name}, µs"] = cpu / count * 1e6
        # Everybody is there, on the socket: all hear one event.
        bench.loader.do("broadcast", times=1, burst=1, size=20)
        bench.loader.do("close")
        bench.settle()


def idle(bench: Bench) -> None:
    """KB per idle connection, and the CPU per delivery to that many."""
    bench.open(1)
    bench.loader.call("collect")
    before = memory(bench.server.worker)
    bench.open(IDLE_CONNECTIONS - 1)
    bench.settle()
    bench.loader.call("collect")
    after = memory(bench.server.worker)
    bench.figures["idle connection, KB"] = (after - before) / (IDLE_CONNECTIONS - 1)
    _steady(bench, IDLE_CONNECTIONS, 200, events=2.5, seconds=4)
    bench.loader.do("close")
    bench.settle()


def block(bench: Bench) -> None:
    """How long a 1 MB message holds up everybody else, in ms, and its CPU."""
    with bench.clients(1):
        bench.loader.call("ignore", fill=MESSAGE_BYTES)
        late, busy, count = [], [], 5
        bench.loader.call("gauge")
        spent = 0.0
        for _ in range(count):
            bench.loader.call("gauge")
            spent += bench.cpu(lambda: bench.loader.call("ignore", fill=MESSAGE_BYTES))[0]
            seen = bench.loader.call("gauge")
            late.append(seen["late"])
            busy.append(seen.get("busy", 0.0))
        bench.figures["1 MB message blocks, ms"] = sorted(late)[count // 2]
        bench.figures["1 MB message, CPU ms"] = spent / count * 1e3
        if any(busy):
            bench.figures["1 MB message blocks (own CPU), ms"] = sorted(busy)[count // 2]
    bench.settle()


# In this order: idle memory would be found in what earlier sections have left free.
SECTIONS: dict[str, Callable[[Bench], None]] = {
    "idle": idle,
    "delivery": delivery,
    "ack": ack,
    "connect": connect,
    "block": block,
}
