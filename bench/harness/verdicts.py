"""Whether ratios of some rounds are above a limit, and how certain that is."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CERTAINTY = 0.95
# With fewer, not even all of them on one side of the limit would be as certain as that: 1/2 to the fifth is 3 %.
LEAST_ROUNDS = 5


class Verdict(NamedTuple):
    """Whether the median is above the limit, and whether rounds like these say so by chance in at most 1 of 20."""

    above: bool
    certain: bool


def verdict(ratios: Sequence[float], most: float) -> Verdict | None:
    """Return what the rounds say, None where they are too few to say anything."""
    if len(ratios) < LEAST_ROUNDS:
        return None
    low, high = bounds(ratios)
    above = statistics.median(ratios) > most
    return Verdict(above, low > most if above else high <= most)


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return between which two of the values the true median is: above the first with CERTAINTY, below the second too.

    Asks nothing of the noise but that rounds don't influence each other: the true median is below the k-th smallest
    only where fewer than k of n values fell below it, each with a chance of one half. Needs LEAST_ROUNDS values.
    """
    count, ranked = len(values), sorted(values)
    chance, place = 0.0, -1
    for below in range(count):
        chance += math.comb(count, below) / 2**count
        if chance > 1 - CERTAINTY:
            break
        place = below
    if place < 0:
        raise ValueError(f"Of {count} values, no bound is certain: {LEAST_ROUNDS} are needed")
    return ranked[place], ranked[-1 - place]
