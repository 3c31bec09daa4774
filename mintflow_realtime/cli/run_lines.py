"""Runs and their nodes as text: a bar for each, or what has changed since a run was shown last."""

import json
from collections.abc import Iterator
from typing import Any

import click

from mintflow_realtime.cli.context import visible
from mintflow_realtime.cli.run_board import ENDED, Row, lasted, moment
from mintflow_realtime.cli.sources.base import Run

BAR = 24
MOST_NAME = 40
_MARKS = {"completed": ("✓", "+", "green"), "failed": ("✗", "x", "red"), "started": ("●", "*", "cyan")}
_WORDS = {"started": "running"}
_MOST_ERROR = 200


class RunLines:
    """Lines for a terminal of `width` columns; `plain` where its encoding has no marks and blocks."""

    def __init__(self, width: int, *, plain: bool) -> None:
        self._width = width
        self._plain = plain

    def of_run(self, row: Row, now: float, column: int = 0) -> str:
        """Return a run's line: its name in `column` columns, bar, percent, status, time, and where it is."""
        run = row.run
        status = str(run["status"])
        percent = 100 if status == "completed" else float(run["progress"])
        parts = [
            self._mark(status),
            f"{name_of(run):<{min(column, MOST_NAME)}}",
            click.style(self._bar(percent), fg=_colour(status)),
            f"{percent:3.0f} %",
            f"{_WORDS.get(status, status):<9}",
            f"{duration(row.seconds(now)):>6}",
            _nodes(run) if status == "started" else error_text(run),
        ]
        return self._cut("  ".join(part for part in parts if part))

    def of_nodes(self, run: Run, now: float, most: int) -> Iterator[str]:
        """Yield a line for each node in order of their starts; what goes on or failed first where they are too many."""
        end = moment(run.get("finishedAt")) or now
        nodes = sorted(run.get("nodes", {}).items(), key=lambda item: (str(item[1].get("startedAt") or ""), item[0]))
        shown = nodes
        if len(nodes) > most:
            urgent = [item for item in nodes if item[1]["status"] != "completed"]
            shown = (urgent + [item for item in reversed(nodes) if item[1]["status"] == "completed"])[
                : max(0, most - 1)
            ]
        for name, node in shown:
            # A node that has told of no end stays as it was when its run ended.
            status = "unknown" if node["status"] == "started" and run["status"] in ENDED else str(node["status"])
            parts = [f"  {self._mark(status)}", f"{visible(name, ''):<20}", f"{_WORDS.get(status, status):<9}"]
            parts += [f"{duration(lasted(node, end)):>6}", error_text(node)]
            yield self._cut("  ".join(part for part in parts if part))
        if len(nodes) > len(shown):
            yield f"    and {len(nodes) - len(shown)} more nodes"

    def _bar(self, percent: float) -> str:
        full, rest = ("#", "-") if self._plain else ("█", "░")
        filled = round(BAR * percent / 100)
        return full * filled + rest * (BAR - filled)

    def _mark(self, status: str) -> str:
        mark, plain, colour = _MARKS.get(status, ("·", ".", "yellow"))
        return click.style(plain if self._plain else mark, fg=colour)

    def _cut(self, line: str) -> str:
        """Cut a line to the terminal's width: one that wraps would be two when it is drawn over."""
        if len(click.unstyle(line)) < self._width:
            return line
        return click.unstyle(line)[: self._width - 2] + ("." if self._plain else "…")


def changes(old: Run | None, new: Run) -> Iterator[str]:
    """Yield what is new in a run since it was shown last, a sentence each."""
    name = name_of(new)
    before = old or {"status": "", "progress": 0, "nodes": {}}
    if old is None or (old["status"] != new["status"] and new["status"] == "started"):
        yield f"{name}  started"
    for node_id, node in sorted(new.get("nodes", {}).items(), key=lambda item: str(item[1].get("startedAt") or "")):
        then = before.get("nodes", {}).get(node_id, {})
        if (then.get("status"), then.get("startedAt")) != (node["status"], node.get("startedAt")):
            yield _sentence(f"{name}  {visible(node_id, '')}", node)
    if new["status"] != "started":
        if before["status"] != new["status"]:
            yield _sentence(name, new)
    elif new["progress"] != before["progress"]:
        yield f"{name}  {float(new['progress']):g} %"


def name_of(run: Run) -> str:
    """Return `flow/run`."""
    return f"{visible(str(run['flowId']), '')}/{visible(str(run['runId']), '')}"


def error_text(one: dict[str, Any]) -> str:
    """Return the error of a run or node, shortened; '' where it has none."""
    error = one.get("error")
    if error is None:
        return ""
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    line = visible(text, " ").replace("\n", " ")
    return click.style(line if len(line) <= _MOST_ERROR else line[:_MOST_ERROR] + "…", fg="red")


def duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `3:07` or `2:03:07`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _sentence(name: str, one: dict[str, Any]) -> str:
    took = f" after {duration(lasted(one, 0))}" if one.get("finishedAt") else ""
    error = error_text(one)
    return f"{name}  {one['status']}{took}" + (f": {error}" if error else "")


def _nodes(run: Run) -> str:
    nodes = run.get("nodes", {})
    going = [visible(name, "") for name, node in nodes.items() if node["status"] == "started"]
    done = sum(node["status"] == "completed" for node in nodes.values())
    bad = sum(node["status"] == "failed" for node in nodes.values())
    parts = [f"{done} done" if done else "", click.style(f"{bad} failed", fg="red") if bad else ""]
    parts.append(", ".join(going[:3]) + (f" and {len(going) - 3} more" if len(going) > 3 else ""))
    return ", ".join(part for part in parts if part)


def _colour(status: str) -> str:
    return _MARKS.get(status, ("", "", "yellow"))[2]
