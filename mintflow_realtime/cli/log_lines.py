"""A log record as a line: for people in a terminal, and as plain text where it is piped on."""

import json
from datetime import datetime

import click

from mintflow_realtime.cli.context import visible
from mintflow_realtime.cli.sources.base import Record

_COLOURS = {"debug": "bright_black", "info": "green", "warn": "yellow", "error": "red"}


class LogLines:
    """Turns records into text. `known` are the fields that all of them share, which need not be repeated."""

    def __init__(self, *, terminal: bool, known: frozenset[str] = frozenset()) -> None:
        self._terminal = terminal
        self._known = known
        self._day = ""

    def text(self, record: Record) -> str:
        """Return a record's line, or lines; in a terminal, the first one of a day comes with its date."""
        level = str(record["logLevel"])
        name = click.style(f"{level.upper():<5}", fg=_COLOURS.get(level))
        place = "/".join(
            visible(str(record[field])) for field in ("flowId", "runId", "nodeId") if self._shown(record, field)
        )
        message = visible(str(record["message"]))
        message = click.style(message, fg="red") if level == "error" else message
        metadata = record.get("metadata") or {}
        more = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")) if metadata else ""
        parts = (name, click.style(place, fg="cyan") if place else "", message, click.style(visible(more), dim=True))
        day, moment = self._moment(str(record["createdAt"]))
        line = "  ".join(part for part in (moment, *parts[:3]) if part) + (f"  {parts[3]}" if more else "")
        return f"{day}{line}"

    def _shown(self, record: Record, field: str) -> bool:
        return bool(record.get(field)) and field not in self._known

    def _moment(self, text: str) -> tuple[str, str]:
        if not self._terminal:
            return "", text
        moment = datetime.fromisoformat(text).astimezone()
        day = f"{moment:%A, %d %B %Y}"
        begins, self._day = day != self._day, day
        header = click.style(f"{day}\n", dim=True) if begins else ""
        return header, click.style(f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}", dim=True)
