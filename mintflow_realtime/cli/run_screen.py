"""Where runs are shown: a block of a terminal that is drawn over, or lines that are added."""

import shutil
import sys
from datetime import datetime

import click

from mintflow_realtime.cli.run_board import RunBoard
from mintflow_realtime.cli.run_lines import RunLines, changes, name_of
from mintflow_realtime.cli.sources.base import Run

_HIDE_CURSOR, _SHOW_CURSOR, _TO_THE_END = "\x1b[?25l", "\x1b[?25h", "\x1b[J"


class RunScreen:
    """Shows a board: all its runs, or, where it is `whole`, the one with its nodes."""

    def __init__(self, *, whole: bool, terminal: bool) -> None:
        self._whole = whole
        self._terminal = terminal
        self._drawn = 0
        self._shown: dict[tuple[str, str], Run] = {}

    def show(self, board: RunBoard, now: float) -> None:
        """Draw the block anew, or print what has changed."""
        if self._terminal:
            self._draw(board, now)
        else:
            self._add(board, now)

    def leave(self) -> None:
        """Give the terminal back; what was drawn last stays."""
        if self._terminal and self._drawn:
            sys.stdout.write(_SHOW_CURSOR)
            sys.stdout.flush()

    def _draw(self, board: RunBoard, now: float) -> None:
        columns, height = shutil.get_terminal_size()
        lines = self._block(board, now, RunLines(columns, plain=_is_plain()), height - 1)
        up = f"\x1b[{self._drawn}A\r" if self._drawn else _HIDE_CURSOR
        self._drawn = len(lines)
        # All at once: a terminal shows no half of it.
        context = click.get_current_context(silent=True)
        text = "".join(f"{line}\x1b[K\n" for line in lines)
        if context and context.color is False:
            text = "".join(f"{click.unstyle(line)}\x1b[K\n" for line in lines)
        sys.stdout.write(f"{up}{text}{_TO_THE_END}")
        sys.stdout.flush()

    def _block(self, board: RunBoard, now: float, lines: RunLines, height: int) -> list[str]:
        if self._whole:
            rows = board.all()
            if not rows:
                return []
            return [lines.of_run(rows[-1], now), *lines.of_nodes(rows[-1].run, now, height - 1)]
        rows = board.rows(now)
        if not rows:
            return ["No run is going on. Waiting."]
        seen = rows[: height if len(rows) <= height else height - 1]
        column = max(len(name_of(row.run)) for row in seen)
        shown = [lines.of_run(row, now, column) for row in seen]
        return shown if len(shown) == len(rows) else [*shown, f"and {len(rows) - len(shown)} more"]

    def _add(self, board: RunBoard, now: float) -> None:
        for row in board.all() if self._whole else reversed(board.rows(now)):
            place = (str(row.run["flowId"]), str(row.run["runId"]))
            for line in changes(self._shown.get(place), row.run):
                click.echo(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {line}")
            self._shown.pop(place, None)
            self._shown[place] = row.run
        while len(self._shown) > 2000:
            del self._shown[next(iter(self._shown))]
        sys.stdout.flush()


def _is_plain() -> bool:
    try:
        "█░✓".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
