"""`python -m bench.transport [--only SECTION]… [--rounds N] [--servers ours,node]`: the three servers, interleaved."""

import argparse
import contextlib
import os
import sys
import time

from bench.harness.lifetimes import stop_on_sigterm, stopping
from bench.harness.loader import Loader, LoadError
from bench.harness.processes import Redis
from bench.harness.report import Rounds, Target
from bench.harness.servers import Node, Ours, Server, Stock, versions
from bench.transport.bare import echoes, sends
from bench.transport.sections import SECTIONS, Bench, warm

# A sample is about a second of CPU for each: how much more of the same work it takes.
SHARES = {"ours": 2.0, "stock": 1.0, "node": 1.5}
TARGETS = (
    Target("delivery 500 x 200 B, µs", "node", 0.65),
    Target("delivery 500 x 200 B, back to back, µs", "node", 0.65),
    Target("idle connection, KB", "node", 0.7),
    Target("ack, µs", "node", 1.2),
    Target("ack, µs", "stock", 0.5),
    Target("ack, back to back, µs", "node", 1.2),
    Target("ack, back to back, µs", "stock", 0.5),
    Target("connection WebSocket, µs", "node", 0.9),
    Target("connection polling, upgrade, µs", "node", 0.9),
    Target("1 MB message blocks, ms", "", 5.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.transport", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="one section; may be repeated")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "9")))
    parser.add_argument("--servers", default="ours,stock,node", help="which, by commas")
    parser.add_argument("--minutes", type=float, default=15, help="begin no further round after this time")
    options = parser.parse_args()
    stop_on_sigterm()
    sections = [name for name in SECTIONS if not options.only or name in options.only]
    rounds = Rounds("transport", versions())
    print(f"{options.rounds} rounds, figures in {rounds.path}", flush=True)
    began, failed = time.monotonic(), 0
    with contextlib.closing(rounds):
        for number in range(options.rounds):
            if time.monotonic() - began > options.minutes * 60:
                print(f"{number} rounds took {options.minutes:g} minutes: no more")
                break
            try:
                one_round(number, sections, options.servers.split(","), rounds)
            except LoadError as error:
                failed += 1
                print(f"round {number + 1} failed: {error}", flush=True)
            print(f"round {number + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        print(rounds.tables(TARGETS))
    sys.exit(failed)


def one_round(number: int, sections: list[str], names: list[str], rounds: Rounds) -> None:
    """Start all servers, and run each section on one after the other; who is first changes with the round."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(stopping(Redis()))
        benches = []
        for name in names:
            server = stack.enter_context(stopping(_start(name, redis.url)))
            loader = stack.enter_context(stopping(Loader()))
            benches.append(Bench(server, loader, SHARES[name]))
        for bench in benches:
            warm(bench)
            bench.settle()
        with stopping(Loader()) as loader:
            figures = {
                **(sends(loader) if "delivery" in sections else {}),
                **(echoes(loader) if "ack" in sections else {}),
            }
        rounds.add(number, "bare", figures)
        turn = number % len(benches)
        for section in sections:
            for bench in benches[turn:] + benches[:turn]:
                SECTIONS[section](bench)
        for bench in benches:
            rounds.add(number, bench.server.name, bench.figures)


def _start(name: str, redis_url: str) -> Server:
    if name == "ours":
        return Ours(redis_url)
    return Stock() if name == "stock" else Node()


if __name__ == "__main__":
    main()
