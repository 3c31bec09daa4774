"""Rounds of figures, their ratios, and the table of both."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

Figures = dict[str, float]
"""Name of a figure, its unit after the last comma, to its value."""


class Target(NamedTuple):
    """The most that a ratio of ours to another's (`to`), or with `to` empty a figure of ours, may be."""

    figure: str
    to: str
    most: float


class Rounds:
    """All figures of a run, kept as JSON lines too: one a figure."""

    def __init__(self, name: str, versions: dict[str, str]) -> None:
        descriptor, path = tempfile.mkstemp(prefix=f"mf-{name}-", suffix=".jsonl")
        self.path = Path(path)
        self._file: TextIO = os.fdopen(descriptor, "w")
        self._by_server: dict[str, list[Figures]] = {}
        self._write({"bench": name, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "versions": versions})

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def add(self, number: int, server: str, figures: Figures) -> None:
        """Take the figures of one server in one round."""
        self._by_server.setdefault(server, []).append(figures)
        for figure, value in figures.items():
            self._write({"round": number, "server": server, "figure": figure, "value": value})

    def figures(self) -> list[str]:
        """Return the names of all figures, in the order of their first appearance."""
        return list(dict.fromkeys(name for rounds in self._by_server.values() for one in rounds for name in one))

    def values(self, server: str, figure: str) -> list[float]:
        """Return a figure of one server, by rounds."""
        return [one[figure] for one in self._by_server.get(server, []) if figure in one]

    def ratios(self, figure: str, to: str) -> list[float]:
        """Return ours by another's, by rounds: only what was measured side by side is compared."""
        pairs = zip(self.values("ours", figure), self.values(to, figure), strict=False)
        return [ours / other for ours, other in pairs if other > 0]

    def table(self, targets: Sequence[Target]) -> str:
        """Return min, median and max of every figure, and ours by each other's, with what must be reached."""
        lines = []
        for figure in self.figures():
            lines.append(figure)
            for server in self._by_server:
                values = self.values(server, figure)
                if values:
                    lines.append(f"  {server:<14}{_spread(values)}")
            for server in self._by_server:
                if server in ("ours", "bare"):
                    continue
                ratios = self.ratios(figure, server)
                if ratios:
                    verdict = self._verdict(figure, server, statistics.median(ratios), targets)
                    lines.append(f"  ours/{server:<9}{_spread(ratios)}{verdict}")
            values = self.values("ours", figure)
            if values and (verdict := self._verdict(figure, "", statistics.median(values), targets)):
                lines.append(f"  ours          {verdict.strip()}")
        return "\n".join(lines)

    def _verdict(self, figure: str, to: str, value: float, targets: Sequence[Target]) -> str:
        told = [
            f"{'reached' if value <= target.most else 'missed'}: at most {target.most:g}"
            for target in targets
            if target.figure == figure and target.to == to
        ]
        return "   " + ", ".join(told) if told else ""

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


def _spread(values: list[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{_number(low):>10} {_number(middle):>10} {_number(high):>10}"


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"
