"""The table of turns, as docs/flows.md shows it to everybody."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "flows.md"


def _table(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if cells[0] == "event" and cells[1] == "none":
            columns = cells[1:]
        elif re.fullmatch(r"(flow|node)_[a-z]+", cells[0]) and len(cells) == len(columns) + 1:
            found[cells[0]] = dict(zip(columns, cells[1:], strict=True))
        elif not line.startswith("|"):
            columns = []
    return found


TURNS = _table(PAGE.read_text())
"""By event, then by the status before: the status after, `=`, `–`, or `next: ` and the next attempt's status."""
