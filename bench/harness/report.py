"""Rounds of figures, their ratios, and the table of both."""

import itertools
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
    """All figures of a run, kept as JSON lines too: one a figure. Ratios are of `subject` by each other server."""

    def __init__(self, name: str, versions: dict[str, str], subject: str = "ours") -> None:
        self._subject = subject
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

    def ratios(self, figure: str, to: str, of: str = "") -> list[float]:
        """Return the subject's, or those of `of`, by another's, by rounds: only what was measured side by side."""
        pairs = zip(self.values(of or self._subject, figure), self.values(to, figure), strict=False)
        return [one / other for one, other in pairs if other > 0]

    def tables(self, targets: Sequence[Target]) -> str:
        """Return every figure, and ours by each other's, as `median (min-max)`, with what must be reached."""
        servers = list(self._by_server)
        rows = [["", *servers]]
        for figure in self.figures():
            rows.append([figure, *(spread(self.values(server, figure)) for server in servers)])
        others = self._others()
        ratios = [[f"{self._subject} by", *others, ""]]
        for figure in self.figures():
            cells = [spread(self.ratios(figure, other)) for other in others]
            verdicts = self._verdicts(figure, targets)
            if any(cells) or verdicts:
                ratios.append([figure, *cells, verdicts])
        return aligned(rows) + ("\n\n" + aligned(ratios) if len(ratios) > 1 else "")

    def _verdicts(self, figure: str, targets: Sequence[Target]) -> str:
        told = []
        for target in targets:
            values = self.ratios(figure, target.to) if target.to else self.values(self._subject, figure)
            if target.figure == figure and values:
                verdict = "reached" if statistics.median(values) <= target.most else "missed"
                told.append(f"{verdict}: at most {target.most:g}" + (f" of {target.to}" if target.to else ""))
        return ", ".join(told)

    def _others(self) -> list[str]:
        return [server for server in self._by_server if server not in (self._subject, "bare")]

    def close(self) -> None:
        """Write the ratios too, and close the file; it stays."""
        for figure, other in itertools.product(self.figures(), self._others()):
            ratios = self.ratios(figure, other)
            if ratios:
                limits = {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
                self._write({"ratio": f"{self._subject}/{other}", "figure": figure, **limits})
        self._file.close()


def spread(values: Sequence[float]) -> str:
    """Return `median (min-max)`, and nothing of no values."""
    if not values:
        return ""
    middle, low, high = statistics.median(values), min(values), max(values)
    return _number(middle) + (f" ({_number(low)}-{_number(high)})" if len(values) > 1 else "")


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines whose columns are below each other."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
