"""Series of plain numbers: counting one more is an addition, whoever reads them. Standard library only.

A series belongs to its process. It has at most `MAX_LABELS` combinations of labels; what comes then counts as `other`.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

MAX_LABELS = 200
OTHER = "other"
# Seconds: from a command that touches no Redis to the two seconds after which one is refused, and beyond.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Series:
    """What all kinds have: a name as Prometheus knows it, what it tells, and the names of its labels."""

    kind = ""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        self.name, self.help, self.labels = name, help, labels
        self.values: dict[tuple[str, ...], Any] = {}

    def snapshot(self) -> list[tuple[tuple[str, ...], Any]]:
        """Return (labels, value) of each combination so far."""
        return list(self.values.items())

    def _bounded(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return labels if len(self.values) < MAX_LABELS or labels in self.values else (OTHER,) * len(self.labels)


class Counter(Series):
    """A number that only grows, by labels."""

    kind = "counter"

    def add(self, *labels: str, by: float = 1) -> None:
        """Count `by` more."""
        try:
            self.values[labels] += by
        except KeyError:
            labels = self._bounded(labels)
            self.values[labels] = self.values.get(labels, 0) + by


class PlainCounter(Series):
    """A number that only grows, without labels: hot paths add to `value` themselves."""

    kind = "counter"

    def __init__(self, name: str, help: str) -> None:
        super().__init__(name, help)
        self.value: float = 0

    def snapshot(self) -> list[tuple[tuple[str, ...], Any]]:
        return [((), self.value)]


class Gauge(Series):
    """A number as it is now, by labels."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Say what it is."""
        self.values[self._bounded(labels)] = value

    def add(self, by: float, *labels: str) -> None:
        """Change it by `by`."""
        labels = self._bounded(labels)
        self.values[labels] = self.values.get(labels, 0) + by


class Histogram(Series):
    """How long things take, in seconds. A value is a list: how many fell into each bucket and beyond, and their sum."""

    kind = "histogram"

    def __init__(self, name: str, help: str, *labels: str, bounds: Sequence[float] = BOUNDS) -> None:
        super().__init__(name, help, *labels)
        self.bounds = tuple(bounds)

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one that took so long."""
        try:
            found = self.values[labels]
        except KeyError:
            found = self.values.setdefault(self._bounded(labels), [0] * (len(self.bounds) + 1) + [0.0])
        found[bisect_left(self.bounds, seconds)] += 1
        found[-1] += seconds
