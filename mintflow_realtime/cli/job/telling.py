"""A command told as a run: begun, its lines, asked whether it is cancelled, and ended, in a thread of its own.

The command must never wait for Redis, so nothing of this happens in the threads that pass its output through.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Sequence

from mintflow_realtime.cli.job.levels import ANSI, level_of_line
from mintflow_realtime.cli.job.process import Process, leave_signals_to_the_main_thread
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import RunCancelled
from mintflow_realtime.services.record_publisher import RecordPublisher
from mintflow_realtime.services.record_queue import RecordQueue
from mintflow_realtime.services.run_scopes.scopes import ASK_SECONDS, Failure, RunScope

# How long the end waits for what is still to be told.
LAST_SECONDS = 5.0
AGAIN_SECONDS = 0.2
ERROR_CHARACTERS = 1000


class Telling(threading.Thread):
    """Tells a run; its node, where there is one, lasts as long."""

    def __init__(
        self, emit: Emitter, tenant: str, run: RunScope, node: str | None, process: Process, kill_after: float
    ) -> None:
        super().__init__(name="mintflow-exec", daemon=True)
        self._run, self._node, self._process, self._kill_after = run, node, process, kill_after
        self._of = {"flow_id": run.flow_id, "run_id": run.run_id, "node_id": node}
        self._queue = RecordQueue(RecordPublisher(emit.logs, tenant, self._of))
        self._failure: str | None = None
        self._is_over = threading.Event()
        self._said = _Said()
        self.last_error = ""

    def lines(self, stream: str, lines: Sequence[str]) -> None:
        """Hand over lines of `stdout` or `stderr`; never waits."""
        for line in lines:
            record = {"message": line, "level": level_of_line(line, stream), "metadata": {"stream": stream}}
            self._queue.put({**record, "timestamp": round(time.time() * 1000), **self._of}, len(line))
        if lines and stream == "stderr":
            self.last_error = ANSI.sub("", lines[-1][:ERROR_CHARACTERS]).strip()

    def end(self, failure: str | None) -> str | None:
        """Tell the end, completed or failed, in at most 5 s. Return why something was not told, None where all was."""
        self._failure = failure
        self._is_over.set()
        self.join(LAST_SECONDS)
        if self.is_alive():
            return self._said.away or "Redis doesn't answer"
        return self._said.refused

    def run(self) -> None:
        """Tell the run until all of it is told."""
        leave_signals_to_the_main_thread()
        with contextlib.suppress(Failure, RunCancelled), self._run:
            with self._run.node(self._node) if self._node else contextlib.nullcontext():
                self._follow()
        while not self._queue.flush() or self._run.keep():
            time.sleep(AGAIN_SECONDS)

    def _follow(self) -> None:
        cancelled: RunCancelled | None = None
        while not self._process.ended.wait(ASK_SECONDS):
            try:
                self._run.check()
            except RunCancelled as error:
                cancelled = error
                self._process.cancel(self._kill_after)
                break
        self._is_over.wait()
        # The end comes after the last line.
        self._queue.flush()
        if cancelled is not None:
            raise cancelled
        if self._failure is not None:
            raise Failure(self._failure)


class _Said(logging.Handler):
    """Keeps what the project says of itself, which nobody else is told here."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.away: str | None = None
        self.refused: str | None = None
        logging.getLogger("mintflow").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "mintflow.redis":
            self.away = record.getMessage()
        else:
            self.refused = record.getMessage()
