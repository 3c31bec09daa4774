"""What is measured on a pair of nodes: clients are on the second, publishes happen on the first."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness.cost import cpu_seconds
from bench.harness.loader import Loader
from bench.harness.processes import Redis
from bench.harness.report import Figures
from bench.harness.servers import Server

SIZE = 200
LATENCY_CLIENTS = 5
RECOVERING = 1000
MISSED = 100


@dataclass
class Pair:
    """Two nodes of one kind, their Redis, and a load generator with a publisher's connection to the first."""

    name: str
    redis: Redis
    first: Server
    second: Server
    loader: Loader
    figures: Figures = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.loader.open(self.first.port, 1, name="publisher", namespace="/control")

    def publish(self, count: int, rate: float) -> tuple[dict[str, float], dict[str, float]]:
        """Publish events to who is connected; return what the clients saw, and CPU seconds by process."""
        processes = {"first": self.first.worker, "second": self.second.worker, "redis": self.redis.pid}
        before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        seen = self.loader.do("publish", count=count, rate=rate, size=SIZE, publisher="publisher")
        return seen, {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}


def warm(pair: Pair) -> None:
    """Have everything used once."""
    pair.loader.open(pair.second.port, 20, namespace="/feed")
    pair.publish(200, 500)
    pair.loader.do("close")


def cpu(pair: Pair) -> None:
    """CPU of the publishing node per publish, and of the receiving one per delivery or event, in µs."""
    publishing = redis = publishes = 0.0
    for clients, rate, seconds in ((500, 20, 3), (20, 100, 3), (1, 100, 3)):
        pair.loader.open(pair.second.port, clients, namespace="/feed")
        pair.publish(10, rate)
        seen, spent = pair.publish(rate * seconds, rate)
        pair.loader.do("close")
        of = f"{clients} client" + "s" * (clients > 1)
        what = "delivery" if clients == 500 else "event"
        per = seen["deliveries"] if clients == 500 else seen["events"]
        pair.figures[f"receiving by {of}, µs per {what}"] = spent["second"] / per * 1e6
        publishing, redis, publishes = publishing + spent["first"], redis + spent["redis"], publishes + seen["events"]
    # Who listens elsewhere is nothing to the publishing node.
    pair.figures["publishing, µs per publish"] = publishing / publishes * 1e6
    pair.figures["Redis, µs per publish"] = redis / publishes * 1e6


def burst(pair: Pair) -> None:
    """CPU of the receiving node per delivery, in µs, of 500 events to 500 clients, published as fast as can be."""
    pair.loader.open(pair.second.port, 500, namespace="/feed")
    pair.publish(10, 100)
    seen, spent = pair.publish(500, 1e6)
    pair.loader.do("close")
    pair.figures["burst to 500 clients, µs per delivery"] = spent["second"] / seen["deliveries"] * 1e6
    pair.figures["burst of 500 events to 500 clients, s"] = seen["seconds"]


def latency(pair: Pair) -> None:
    """From a publish to its deliveries on the other node at 1,000 events a second, in ms."""
    pair.loader.open(pair.second.port, LATENCY_CLIENTS, namespace="/feed")
    pair.publish(200, 1000)
    seen, _ = pair.publish(2000, 1000)
    pair.loader.do("close")
    pair.figures["publish to delivery p50, ms"], pair.figures["publish to delivery p99, ms"] = seen["p50"], seen["p99"]
    pair.figures["publish to delivery, events a second"] = seen["events"] / seen["seconds"]


def recovery(pair: Pair) -> None:
    """How long 1,000 clients with 100 missed events each take to be whole again on the other node, in s."""
    if not pair.loader.do("follow", port=pair.second.port, count=RECOVERING)["recoverable"]:
        pair.loader.do("unfollow")
        return
    pair.publish(10, 100)
    time.sleep(1)  # until all of them have their last offset
    pair.loader.do("cut")
    time.sleep(1)  # until the node has noticed, and said where they stood
    pair.publish(MISSED, 500)
    before = pair.first.cpu_seconds()
    seen = pair.loader.do("recover", port=pair.first.port, missed=MISSED)
    spent = pair.first.cpu_seconds() - before
    pair.loader.do("unfollow")
    pair.figures["recovery of 1,000 clients, s"] = seen["seconds"]
    pair.figures["recovery, CPU ms a client"] = spent / RECOVERING * 1e3
    pair.figures["recovery, clients that are whole"] = seen["whole"]
    pair.figures["recovery, events lost or repeated"] = seen["lost"] + seen["repeated"]


SECTIONS: dict[str, Callable[[Pair], None]] = {"cpu": cpu, "burst": burst, "latency": latency, "recovery": recovery}
