"""The gunicorn worker: `worker_class = "mintflow_realtime.transport.worker.gunicorn_worker.Worker"`.

The master loads this module long before a worker has patched the standard library. So it imports nothing that brings
along ssl's classes, as python-engineio does: HTTPS by `requests` or urllib3 would end in a RecursionError.
"""

import gc
import os
import resource
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from gunicorn.arbiter import Arbiter
from gunicorn.errors import AppImportError, HaltServer

from mintflow_realtime.transport.worker import standing
from mintflow_realtime.transport.worker.configuration import refusal
from mintflow_realtime.transport.worker.signals_at_fork import let_next_fork_end
from mintflow_realtime.transport.worker.succession import FAILED, of_this_master

__all__ = ["Worker"]

# Of objects, where Python looks for circles after every 700.
LOADED_AT_ONCE = 100_000


class Worker(GeventWebSocketWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with our server and handler, which drains before it ends.

    It ends on SIGTERM and where the master is gone. The master sends that on a HUP, and after `max_requests` requests
    and connections, when others serve in its place (`succession.py`). What can't work stops gunicorn at the start, with
    one sentence, whatever configuration it has.
    """

    alive: bool
    wsgi: Any
    failed = False
    awaited: Collection[str] = ()

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # Still in the master.
        reason = refusal(self.cfg)
        if reason is not None:
            raise HaltServer(reason, Arbiter.WORKER_BOOT_ERROR)
        self.succession = of_this_master()
        self.others_serve = self.succession is not None and self.succession.anyone_serves()
        self.succeeds = self.others_serve and self.succession is not None and self.succession.reloading
        let_next_fork_end()

    def init_process(self) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # a system whose hard limit is above what it grants
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if self.succession is not None:
            self.succession.left_to_master()
            if self.others_serve:
                self.succession.let_only_this_worker_end()
        super().init_process()

    def load_wsgi(self) -> None:
        from mintflow_realtime.transport.worker.options import CannotServe, served_by, transport_of

        try:
            # Not gunicorn's own `load_wsgi`: under `--reload` it replaces what doesn't load by a bare function.
            with _collecting_seldom():
                self.wsgi = served_by(self.app.wsgi())
            transport_of(self.wsgi)
        except Exception as error:
            if self.cfg.reload:
                self._serve_fault(error)
            elif isinstance(error, CannotServe) or getattr(error, "is_sentence", False):
                self.end_boot(error)
            else:
                if self.others_serve and isinstance(error, AppImportError):
                    # gunicorn writes it to standard error alone.
                    self.log.error("%s", error)
                raise

    def _serve_fault(self, error: Exception) -> None:
        """Serve what is wrong until a file is mended: ending would end the master, and with it `--reload`."""
        from mintflow_realtime.transport.worker.failed_load import (
            FailedApplication,
            awaited_files,
            files_of,
            without_loaders,
        )

        files = files_of(error)
        # gunicorn's reloader sees changes of files, and not that one has come.
        self.awaited = awaited_files(error)
        error = without_loaders(error)
        self.log.error("The application doesn't load; it is tried again when a file changes.", exc_info=error)
        self.failed = True
        self.wsgi = FailedApplication(error)
        for name in files:
            self.reloader.add_extra_file(name)

    def run(self) -> None:
        from mintflow_realtime.transport.worker.serving import serve

        if self.failed:
            self.tell(standing.SERVES)
            super().run()
        else:
            serve(self)

    def notify(self) -> None:
        """Tell the master that this worker lives; drain where there is no master any more, as when told to stop."""
        if any(map(os.path.exists, self.awaited)):
            self.alive = False
        if self.ppid == os.getppid():
            super().notify()
        elif self.alive:
            self.log.info("The master is gone: draining")
            self.alive = False

    def tell(self, how: int) -> None:
        """Tell the master how this worker stands: `standing.SERVES`, `standing.WANTS_TO_GO`."""
        standing.tell(self, how)

    def end_boot(self, sentence: object) -> NoReturn:
        """Let the master end too, but where others serve: the next worker would fail as this one does."""
        self.log.error("mintflow: %s", sentence)
        sys.exit(FAILED if self.others_serve else Arbiter.WORKER_BOOT_ERROR)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Look for garbage less often: what an application loads stays, and to look through it is a sixth of its import."""
    before = gc.get_threshold()
    gc.set_threshold(LOADED_AT_ONCE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
