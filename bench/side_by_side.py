"""One round of two or more checkouts: each thing is measured on one after the other, within the same seconds."""

import contextlib
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from bench.fanout.sections import SECTIONS as FANOUT
from bench.fanout.sections import Pair
from bench.fanout.sections import warm as warm_pair
from bench.harness.checkouts import Checkout
from bench.harness.emitting import QUICK, WAYS, Emitting
from bench.harness.lifetimes import stopping
from bench.harness.loader import Loader, LoadError
from bench.harness.processes import Redis
from bench.harness.report import Figures
from bench.harness.servers import Ours
from bench.transport.sections import SECTIONS as TRANSPORT
from bench.transport.sections import Bench, warm

SHARE = 2.0  # of the work that stock's server gets: about a second of CPU a sample
# Fewer where a test only looks whether all of it works.
SLICES = 3 if QUICK else 15

Sections = dict[str, Figures]
"""Figures by the name of the section that they come from."""


@dataclass(frozen=True)
class Side:
    """One of the checkouts, under the name that its figures have."""

    name: str
    checkout: Checkout


class _Measured(Protocol):
    figures: Figures


Started = TypeVar("Started", bound=_Measured)
Acts = dict[str, Sequence[Callable[[Started], None]]]
"""What is done for a section; after each, the next side's turn comes. A figure that comes again is a median."""

# The shorter the turns, the more alike are the machine's slow seconds for all sides; so what is short has several.
TURNS = {"delivery": 2, "ack": 3, "block": 3, "burst": 3}
ONE_NODE: Acts[Bench] = {name: [act] * TURNS.get(name, 1) for name, act in TRANSPORT.items()}
TWO_NODES: Acts[Pair] = {
    "fanout" if name == "cpu" else name: [act] * TURNS.get(name, 1) for name, act in FANOUT.items()
}
NO_NODE: Acts[Emitting] = {"publish": [partial(Emitting.publish, way=way) for way in WAYS for _ in range(SLICES)]}
NAMES = [*ONE_NODE, *TWO_NODES, *NO_NODE]


def one_round(number: int, sides: Sequence[Side], names: Sequence[str]) -> dict[str, Sections]:
    """Return the figures by side. Servers are new in each round; who comes first changes with it. Raises LoadError."""
    turn = number % len(sides)
    ordered = [*sides[turn:], *sides[:turn]]
    found: dict[str, Sections] = {side.name: {} for side in sides}
    _in_turn(ordered, _one_node, _wanted(ONE_NODE, names), found)
    _in_turn(ordered, _two_nodes, _wanted(TWO_NODES, names), found)
    _in_turn(ordered, _emitting, _wanted(NO_NODE, names), found)
    return found


def _wanted(acts: Acts[Started], names: Sequence[str]) -> Acts[Started]:
    return {name: those for name, those in acts.items() if name in names}


def _in_turn(
    sides: Sequence[Side],
    start: Callable[[Side, contextlib.ExitStack], Started],
    acts: Acts[Started],
    found: dict[str, Sections],
) -> None:
    """Start something on every side, do each act on one side after the other, and stop everything."""
    with contextlib.ExitStack() as stack:
        started: list[tuple[Side, Started]] = []
        for side in sides if acts else ():
            with _blaming(side):
                started.append((side, start(side, stack)))
        for name, those in acts.items():
            values: dict[str, dict[str, list[float]]] = {side.name: {} for side in sides}
            for act in those:
                for side, one in started:
                    one.figures.clear()
                    with _blaming(side):
                        act(one)
                    for figure, value in one.figures.items():
                        values[side.name].setdefault(figure, []).append(value)
            for side in sides:
                medians = {figure: statistics.median(seen) for figure, seen in values[side.name].items()}
                found[side.name][name] = medians


@contextlib.contextmanager
def _blaming(side: Side) -> Iterator[None]:
    """Say on whose side it was that something failed."""
    try:
        yield
    except (LoadError, RuntimeError, OSError, StopIteration, subprocess.TimeoutExpired) as error:
        raise LoadError(f"{side.name} ({side.checkout.root}): {error}") from error


# Each has a Redis of its own: on a common one they would be nodes of one cluster, and hear each other.


def _one_node(side: Side, stack: contextlib.ExitStack) -> Bench:
    redis = stack.enter_context(stopping(Redis()))
    server = stack.enter_context(stopping(Ours(redis.url, checkout=side.checkout)))
    bench = Bench(server, stack.enter_context(stopping(Loader())), SHARE)
    warm(bench)
    bench.settle()
    return bench


def _two_nodes(side: Side, stack: contextlib.ExitStack) -> Pair:
    redis = stack.enter_context(stopping(Redis()))
    first, second = (
        stack.enter_context(stopping(Ours(redis.url, "ours_feed", checkout=side.checkout))) for _ in range(2)
    )
    pair = Pair(side.name, redis, first, second, stack.enter_context(stopping(Loader())))
    warm_pair(pair)
    return pair


def _emitting(side: Side, stack: contextlib.ExitStack) -> Emitting:
    redis = stack.enter_context(stopping(Redis()))
    emitting = stack.enter_context(stopping(Emitting(redis, side.checkout)))
    emitting.warm()
    return emitting
