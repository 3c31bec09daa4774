"""Ratios of two checkouts: what is above the limit, and how certain that is."""

import argparse
import contextlib
import random
from collections.abc import Iterator, Sequence

import pytest

from bench import compare
from bench.compare import AGAIN, NEW, OLD, doubtful, judged
from bench.harness.report import Rounds
from bench.harness.verdicts import Verdict, bounds, verdict


@contextlib.contextmanager
def measured(figure: str, old: list[float], new: list[float], again: list[float] | None = None) -> Iterator[Rounds]:
    rounds = Rounds("test", {}, subject=NEW)
    try:
        for name, values in ((OLD, old), (NEW, new), (AGAIN, again or [])):
            for number, value in enumerate(values):
                rounds.add(number, name, {figure: value})
        yield rounds
    finally:
        rounds.close()
        rounds.path.unlink()


def test_fewer_than_five_rounds_say_nothing() -> None:
    assert verdict([9.0] * 4, 1.03) is None
    with pytest.raises(ValueError, match="Of 4 values, no bound is certain: 5 are needed"):
        bounds([9.0] * 4)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.04, 1.05, 1.06, 1.07, 1.08], Verdict(above=True, certain=True)),
        ([1.02, 1.05, 1.06, 1.07, 1.08], Verdict(above=True, certain=False)),
        ([0.98, 0.99, 1.0, 1.01, 1.02], Verdict(above=False, certain=True)),
        ([0.98, 0.99, 1.0, 1.01, 1.2], Verdict(above=False, certain=False)),
        # Of eight, one may stray.
        ([0.9, 1.05, 1.05, 1.06, 1.06, 1.07, 1.08, 1.09], Verdict(above=True, certain=True)),
        ([0.9, 0.9, 1.05, 1.06, 1.06, 1.07, 1.08, 1.09], Verdict(above=True, certain=False)),
        ([1.03] * 5, Verdict(above=False, certain=True)),
    ],
)
def test_the_median_is_judged_and_certain_where_chance_would_hardly_say_so(
    ratios: list[float], expected: Verdict
) -> None:
    assert verdict(ratios, 1.03) == expected


@pytest.mark.parametrize("count", [5, 6, 8, 11, 20])
def test_the_true_median_is_above_the_lower_bound_in_19_of_20(count: int) -> None:
    chance = random.Random(count)
    # A long tail to one side, as times have: median 1, mean 1.6.
    tries = [bounds([chance.lognormvariate(0, 1) for _ in range(count)]) for _ in range(2000)]
    assert sum(low <= 1 for low, _ in tries) / len(tries) > 0.94
    assert sum(high >= 1 for _, high in tries) / len(tries) > 0.94
    assert sum(low > 1 for low, _ in tries) + sum(high < 1 for _, high in tries) > 0, "bounds that say nothing"


def test_cpu_above_the_limit_fails_and_is_told() -> None:
    with measured("ack, µs", [10.0] * 5, [11.0] * 5, [10.0] * 5) as rounds:
        text, above = judged(rounds, 1.03, True)
    assert above
    assert "above 1.03, certain" in text and "new is 1.100 of old" in text and "old is 1.000 of itself" in text


def test_a_time_by_the_clock_is_shown_and_not_judged() -> None:
    with measured("latency p99, ms", [10.0] * 5, [20.0] * 5) as rounds:
        text, above = judged(rounds, 1.03, False)
    assert not above
    assert "2" in text.splitlines()[-1] and "above" not in text


def test_what_is_above_and_not_certain_is_in_doubt() -> None:
    for figure, new, expected in (
        ("ack, µs", [1.2, 1.2, 1.2, 1.2, 1.0], ["ack, µs"]),
        ("ack, µs", [1.2] * 5, []),
        ("ack, µs", [1.0, 1.0, 1.0, 1.2, 1.2], []),
        ("latency p99, ms", [1.2, 1.2, 1.2, 1.2, 1.0], []),
    ):
        with measured(figure, [1.0] * 5, new) as rounds:
            assert doubtful(rounds, 1.03) == expected, (figure, new)


def test_more_rounds_are_of_what_is_in_doubt_and_end_with_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = [1.2, 1.2, 1.0, 1.2, 1.0, 1.0, 1.0, 1.0]
    asked: list[list[str]] = []

    def one_round(number: int, sides: object, names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
        asked.append(list(names))
        found = {side: {name: {f"{name}, µs": 1.0} for name in names} for side in (OLD, NEW)}
        found[NEW]["ack"]["ack, µs"] = ratios[number]
        return found

    monkeypatch.setattr(compare, "one_round", one_round)
    options = argparse.Namespace(rounds=5, more=None, most=1.03, seconds=60, only=["ack", "block"])
    with measured("", [], []) as rounds:
        assert compare._measure(rounds, [], options) == 0
    # The median of the first five is 1.2; of six, 1.1; of seven, 1.0.
    assert asked == [["ack", "block"]] * 5 + [["ack"]] * 2


def test_too_few_rounds_fail_nothing() -> None:
    with measured("ack, µs", [10.0] * 4, [20.0] * 4) as rounds:
        text, above = judged(rounds, 1.03, False)
    assert not above and "not judged: fewer than 5 rounds" in text


def test_rounds_are_divided_before_the_median_is_taken() -> None:
    with measured("ack, µs", [10.0, 20.0, 30.0, 40.0, 50.0], [10.2, 20.4, 30.6, 40.8, 51.0]) as rounds:
        text, above = judged(rounds, 1.03, False)
    assert not above and "1.02" in text and "at most 1.03, certain" in text
