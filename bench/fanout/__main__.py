"""`python -m bench.fanout [--only SECTION]… [--rounds N] [--servers ours,node]`: pairs of nodes, interleaved."""

import argparse
import contextlib
import os
import sys
import time

from bench.fanout.rolling import rolling
from bench.fanout.sections import SECTIONS, Pair, warm
from bench.harness.lifetimes import stop_on_sigterm, stopping
from bench.harness.loader import Loader, LoadError
from bench.harness.processes import Redis
from bench.harness.report import Rounds, Target
from bench.harness.servers import Node, Ours, Server, Stock, versions

PAIRS = ("ours", "node redis", "node streams", "stock")
TARGETS = (
    Target("receiving by 500 clients, µs per delivery", "node redis", 0.75),
    Target("receiving by 20 clients, µs per event", "node redis", 0.8),
    Target("receiving by 1 client, µs per event", "node redis", 0.8),
    Target("publishing, µs per publish", "node redis", 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*SECTIONS, "rolling"], help="one section; may be repeated")
    parser.add_argument("--rounds", type=int, default=min(5, int(os.environ.get("ROUNDS", "5"))))
    parser.add_argument("--servers", default=",".join(PAIRS), help="which pairs, by commas")
    parser.add_argument("--minutes", type=float, default=5, help="begin no further round after this time")
    options = parser.parse_args()
    stop_on_sigterm()
    wanted = options.only or [*SECTIONS, "rolling"]
    sections = [name for name in wanted if name in SECTIONS]
    rounds = Rounds("fanout", versions())
    print(f"{options.rounds} rounds, figures in {rounds.path}", flush=True)
    began, failed = time.monotonic(), 0
    with contextlib.closing(rounds):
        for number in range(options.rounds if sections else 0):
            if time.monotonic() - began > options.minutes * 60:
                print(f"{number} rounds took {options.minutes:g} minutes: no more")
                break
            try:
                one_round(number, sections, options.servers.split(","), rounds)
            except LoadError as error:
                failed += 1
                print(f"round {number + 1} failed: {error}", flush=True)
            print(f"round {number + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if "rolling" in wanted:
            rounds.add(0, "ours", rolling())
        print(rounds.tables(TARGETS))
    sys.exit(failed)


def one_round(number: int, sections: list[str], names: list[str], rounds: Rounds) -> None:
    """Start all pairs, each with a Redis of its own, and run each section on one after the other."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for name in names:
            redis = stack.enter_context(stopping(Redis()))
            first, second = (stack.enter_context(stopping(_start(name, redis.url))) for _ in range(2))
            pairs.append(Pair(name, redis, first, second, stack.enter_context(stopping(Loader()))))
        for pair in pairs:
            warm(pair)
        turn = number % len(pairs)
        for section in sections:
            for pair in pairs[turn:] + pairs[:turn]:
                SECTIONS[section](pair)
        for pair in pairs:
            rounds.add(number, pair.name, pair.figures)


def _start(name: str, redis_url: str) -> Server:
    if name == "ours":
        return Ours(redis_url, "ours_feed")
    if name == "stock":
        return Stock(redis_url, "stock_feed")
    return Node(redis_url, "node_feed", name.removeprefix("node "))


if __name__ == "__main__":
    main()
