"""Compare two checkouts of this server, each measured beside the other: `python bench/compare.py OLD NEW`.

Prints every figure of both, and new by old as `median (min-max)` of the rounds. Exit code 1 where a figure of CPU or
memory is above the limit, 2 where something could not be measured.
"""

import argparse
import contextlib
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness.checkouts import Checkout, CheckoutError
from bench.harness.lifetimes import stop_on_sigterm
from bench.harness.loader import LoadError
from bench.harness.report import Rounds, aligned, spread
from bench.harness.verdicts import LEAST_ROUNDS, Verdict, verdict
from bench.side_by_side import NAMES, Side, one_round

OLD, NEW, AGAIN = "old", "new", "old again"
# Times by the clock have the neighbours on the machine in them: they are shown, and not judged.
JUDGED = ("µs", "CPU", "KB")


def main() -> None:
    options = _options()
    stop_on_sigterm()
    try:
        old = Checkout.at(options.old)
        sides = [Side(OLD, old), Side(NEW, Checkout.at(options.new))]
        if options.self:
            sides.append(Side(AGAIN, old))
        told = {side.name: f"{side.checkout.root} at {side.checkout.commit()}" for side in sides}
        versions = {side.name: side.checkout.versions() for side in sides}
    except CheckoutError as error:
        raise SystemExit(_refused(str(error))) from None
    for name, text in told.items():
        print(f"{name}: {text}")
    for package, version in versions[OLD].items():
        if version != versions[NEW][package]:
            print(f"Not the same: {package} is {version} under {OLD}, {versions[NEW][package]} under {NEW}")
    if sides[0].checkout.namespaces() != sides[1].checkout.namespaces():
        print("Not the same: what the two benches' servers do (bench/servers/namespace.py, feed.py)")
    rounds = Rounds("compare", {**told, **{name: str(of) for name, of in versions.items()}}, subject=NEW)
    print(f"{options.rounds} rounds, figures in {rounds.path}", flush=True)
    with contextlib.closing(rounds):
        failed = _measure(rounds, sides, options)
        table, above = judged(rounds, options.most, options.self)
    print(table if rounds.figures() else "Nothing was measured.")
    sys.exit(2 if failed else int(above))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD", help="a checkout; without a .venv in it, this Python runs it")
    parser.add_argument("new", metavar="NEW", help="another")
    parser.add_argument("--rounds", type=int, default=5, help=f"with fewer than {LEAST_ROUNDS}, nothing is judged")
    parser.add_argument(
        "--more",
        type=int,
        metavar="ROUNDS",
        help="at most so many more where it is not certain (default: twice --rounds)",
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="one section; may be repeated")
    parser.add_argument("--seconds", type=float, default=1800, help="begin no further round after this time")
    parser.add_argument("--most", type=float, default=1.03, help="what a ratio may be (default: %(default)s)")
    parser.add_argument("--self", action="store_true", help="measure OLD twice: what two of the same differ by")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.most <= 0 or (options.more or 0) < 0:
        parser.error("--rounds, --seconds and --most must be above 0, --more not below")
    return options


def _refused(sentence: str) -> int:
    print(f"compare: {sentence}", file=sys.stderr)
    return 2


def _measure(rounds: Rounds, sides: Sequence[Side], options: argparse.Namespace) -> int:
    """Do the rounds; return how many failed. Where the first fails, the others would.

    Of some 30 figures of two equal checkouts, the median of five rounds is now and then above the limit: what is above
    and not certain is measured again until it is certain or no longer above.
    """
    began, failed, names = time.monotonic(), 0, options.only or NAMES
    sections: dict[str, str] = {}
    more = 2 * options.rounds if options.more is None else options.more
    for number in range(options.rounds + (more if options.rounds >= LEAST_ROUNDS else 0)):
        if number >= options.rounds:
            names = list(dict.fromkeys(sections[figure] for figure in doubtful(rounds, options.most)))
            if not names:
                break
        if time.monotonic() - began > options.seconds:
            print(f"{number} rounds took {options.seconds:g} s: no more")
            break
        try:
            found = one_round(number, sides, names)
        except LoadError as error:
            failed += 1
            print(f"round {number + 1} failed: {error}", flush=True)
            if number == 0:
                break
            continue
        for side, by_section in found.items():
            sections.update((figure, section) for section, figures in by_section.items() for figure in figures)
            rounds.add(
                number, side, {name: value for figures in by_section.values() for name, value in figures.items()}
            )
        which = f" ({', '.join(names)})" if number >= options.rounds else ""
        print(f"round {number + 1}{which}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return failed


def doubtful(rounds: Rounds, most: float) -> list[str]:
    """Return the figures that are above the limit, and not certain to be."""
    return [
        figure
        for figure in rounds.figures()
        if _is_judged(figure) and verdict(rounds.ratios(figure, OLD), most) == Verdict(above=True, certain=False)
    ]


def _is_judged(figure: str) -> bool:
    return any(word in figure for word in JUDGED)


def judged(rounds: Rounds, most: float, control: bool) -> tuple[str, bool]:
    """Return the tables, and whether a judged figure of the new checkout is above `most` times the old one's."""
    head = ["", OLD, NEW, f"{NEW} by {OLD}", *([f"{AGAIN} by {OLD}"] if control else []), ""]
    rows, others, above, medians, noise = [head], [], False, [], []
    for figure in rounds.figures():
        ratios = rounds.ratios(figure, OLD)
        same = rounds.ratios(figure, OLD, AGAIN)
        cells = [figure, *(spread(rounds.values(name, figure)) for name in (OLD, NEW)), spread(ratios)]
        cells += [spread(same)] if control else []
        if not ratios or not _is_judged(figure):
            others.append([*cells, ""])
            continue
        found = verdict(ratios, most)
        rows.append([*cells, _told(found, most)])
        above = above or (found is not None and found.above)
        medians.append(statistics.median(ratios))
        if same:
            noise.append(statistics.median(same))
    text = aligned([*rows, *([["not judged", *[""] * (len(head) - 1)], *others] if others else [])])
    if medians:
        text += f"\n\nAll judged figures together: {NEW} is {_mean(medians):.3f} of {OLD} (geometric mean of medians)"
    if noise:
        text += f"; {OLD} is {_mean(noise):.3f} of itself, its figures {min(noise):.2f}-{max(noise):.2f}"
    return text, above


def _told(found: Verdict | None, most: float) -> str:
    if found is None:
        return f"not judged: fewer than {LEAST_ROUNDS} rounds"
    return f"{'above' if found.above else 'at most'} {most:g}" + (", certain" if found.certain else ", not certain")


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))


if __name__ == "__main__":
    main()
