"""One stream of a command's output: passed through as it is, and told line by line."""

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from mintflow_realtime.cli.job.lines import Lines
from mintflow_realtime.cli.job.process import leave_signals_to_the_main_thread

READ_BYTES = 65_536
LOOK_SECONDS = 0.25
# What the command left running may hold its output open: it is read for so long after the end, and no more than what
# a pipe may hold at most.
AFTER_SECONDS, AFTER_BYTES = 2.0, 1_048_576


class Output(threading.Thread):
    """Reads `source` until its end, or `ended` and a while."""

    def __init__(
        self, source: int, target: int, ended: threading.Event, tell: Callable[[Sequence[str]], None], name: str
    ) -> None:
        super().__init__(name=f"mintflow-{name}", daemon=True)
        self._source, self._target, self._ended, self._tell = source, target, ended, tell

    def run(self) -> None:
        """Read to the end. Where nobody reads `target` any more, the command is told so as it would be without us."""
        leave_signals_to_the_main_thread()
        lines, after, left = Lines(), 0.0, AFTER_BYTES
        while True:
            is_ready = bool(select.select([self._source], [], [], LOOK_SECONDS)[0])
            now = time.monotonic()
            if self._ended.is_set():
                after = after or now
                if now - after > AFTER_SECONDS and (not is_ready or left <= 0):
                    break
            chunk = os.read(self._source, READ_BYTES) if is_ready else b""
            if is_ready and not chunk:
                break
            left -= len(chunk) if after else 0
            is_read = _write(self._target, chunk)
            self._tell(lines.feed(chunk, now))
            if not is_read:
                break
        self._tell(lines.end())
        os.close(self._source)


def _write(target: int, text: bytes) -> bool:
    while text:
        try:
            text = text[os.write(target, text) :]
        except BlockingIOError:
            select.select([], [target], [], LOOK_SECONDS)
        except OSError:
            return False
    return True
