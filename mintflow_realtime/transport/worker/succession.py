"""What the master does otherwise than gunicorn's: workers go when their successors serve, and stay where none can.

Works on the arbiter of gunicorn 27.0.1 by its two methods that start and stop workers (`docs/contracts.md`), whatever
the configuration is.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from gunicorn.arbiter import Arbiter

from mintflow_realtime.transport.worker import standing
from mintflow_realtime.transport.worker.configuration import Before, ConfigurationFault, load_configuration

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds until a worker that could not start is tried again: doubled each time."""
# For a worker that fails while others serve. gunicorn ends the whole server for 3 and 4.
FAILED = 1


class Succession:
    """The workers of one arbiter: who is to go, who has been told so, and who doesn't serve yet."""

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter
        self._reload, self._manage = arbiter.reload, arbiter.manage_workers
        arbiter.reload, arbiter.manage_workers = self.reload, self.manage
        self.reloading = False
        """A HUP is being handled: workers that are made now are to succeed others."""
        self._before: Before | None = None
        # In the order of their ages, as gunicorn keeps them.
        self._leaving: dict[Any, None] = {}
        self._told: dict[Any, None] = {}
        self._starting: dict[Any, None] = {}
        # All that a HUP has started, while the old ones wait for them.
        self._young: dict[Any, None] = {}
        self._hidden: dict[int, Any] = {}
        self._wait = 0.0
        self._next_start = 0.0

    def anyone_serves(self) -> bool:
        """Tell whether a worker of this master serves that has not been told to go."""
        workers = {**self._hidden, **self._arbiter.WORKERS}.values()
        return any(standing.serves(worker) for worker in workers if worker not in self._told)

    def left_to_master(self) -> None:
        """Let go, in a new worker, of what is its siblings' and gunicorn doesn't know of."""
        for worker in self._hidden.values():
            worker.tmp.close()
        if self._before is not None:
            self._before.close()

    def let_only_this_worker_end(self) -> None:
        """See, in a new worker, that the master lives on where this worker can't load its application."""
        self._arbiter.WORKER_BOOT_ERROR = self._arbiter.APP_LOAD_ERROR = FAILED

    # The two methods of the arbiter

    def reload(self) -> None:
        """Start new workers with the configuration of now; `manage` lets the old ones go when all of those serve."""
        arbiter = self._arbiter
        if self._young:
            # The HUP before this one is overtaken: what it has started is old already.
            self._tell(self._young)
            self._end_change()
        try:
            configuration = load_configuration(arbiter.app)
        except ConfigurationFault as fault:
            arbiter.log.error("The configuration doesn't load, so all goes on as before. %s", fault)
            return
        self._before = Before(arbiter)
        self.reloading = True
        old = dict(arbiter.WORKERS)
        try:
            with self._without(old), configuration:
                self._reload()
        except (SystemExit, Exception) as error:
            if os.getpid() != arbiter.pid:
                raise  # a worker, whose whole life is within this call
            arbiter.log.error("The reload failed: %s", error, exc_info=not isinstance(error, SystemExit))
            self._young = self._note_new(old)
            self._give_up()
            return
        finally:
            self.reloading = False
        self._young = self._note_new(old)
        self._leaving = {worker: None for worker in old.values() if worker not in self._told}

    def manage(self) -> None:
        """Start workers where some are missing, and tell those to go that are too many, or whose successors serve."""
        if self.reloading:
            self._manage()
            return
        present = dict.fromkeys(self._arbiter.WORKERS.values())
        if any(map(standing.serves, self._starting)):
            self._wait = 0.0
        lost = [worker for worker in self._starting if worker not in present and worker not in self._told]
        self._starting = {one: None for one in _those_in(present, self._starting) if not standing.serves(one)}
        self._leaving, self._told = _those_in(present, self._leaving), _those_in(present, self._told)
        if any(worker in self._young for worker in lost):
            self._give_up()
        elif lost and self.anyone_serves():
            self._put_off()
        self._leaving.update({one: None for one in present if standing.wants_to_go(one) and one not in self._told})
        self._tell(self._leaving if self._are_succeeded() else ())
        self._tell(self._surplus())
        # Once more to who had no handler for it yet.
        self._tell([worker for worker in self._told if not standing.serves(worker)])
        self._start_missing()

    def _start_missing(self) -> None:
        known = dict(self._arbiter.WORKERS)
        if len(self._staying()) < self._arbiter.num_workers and monotonic() < self._next_start:
            return
        with self._without({pid: worker for pid, worker in known.items() if worker in self._going()}):
            self._manage()
        new = self._note_new(known)
        if self._young:
            self._young.update(new)

    def _note_new(self, known: dict[int, Any]) -> dict[Any, None]:
        new = {worker: None for pid, worker in self._arbiter.WORKERS.items() if pid not in known}
        self._starting.update(new)
        return new

    # Who stays and who goes

    def _going(self) -> dict[Any, None]:
        return self._leaving | self._told

    def _staying(self) -> list[Any]:
        going = self._going()
        return [worker for worker in self._arbiter.WORKERS.values() if worker not in going]

    def _surplus(self) -> list[Any]:
        staying = sorted(self._staying(), key=lambda worker: worker.age)
        return staying[: max(0, len(staying) - self._arbiter.num_workers)]

    def _are_succeeded(self) -> bool:
        staying = self._staying()
        if len(staying) < self._arbiter.num_workers or not all(map(standing.serves, staying)):
            return False
        self._end_change()
        return True

    def _tell(self, workers: Any) -> None:
        """Let workers drain. Those that serve are told once: a second signal could cut the end of the first's work."""
        for worker in tuple(workers):
            if worker in self._told and standing.serves(worker):
                continue
            self._told[worker] = None
            self._leaving.pop(worker, None)
            self._arbiter.kill_worker(worker.pid, signal.SIGTERM)

    def _end_change(self) -> None:
        self._young = {}
        if self._before is not None:
            self._before.close()
            self._before = None

    def _give_up(self) -> None:
        """Take a HUP back: who served before serves on, by the configuration of before, and who was starting starts."""
        ended = _those_in(dict.fromkeys(self._arbiter.WORKERS.values()), self._young)
        if self._before is not None:
            self._before.restore()
        self._end_change()
        self._leaving = {}
        self._starting = {worker: None for worker in self._starting if worker not in ended}
        self._tell(ended)
        self._put_off(told=False)
        self._arbiter.log.error(
            "The new workers don't start, for what stands above. The %d of before serve on, as they were: "
            "mend it and send HUP again.",
            len(self._staying()),
        )

    def _put_off(self, *, told: bool = True) -> None:
        self._wait = min(max(FIRST_WAIT, self._wait * 2), LONGEST_WAIT)
        self._next_start = monotonic() + self._wait
        if told:
            self._arbiter.log.error("A worker could not start; others serve on. Next try in %g s.", self._wait)

    @contextmanager
    def _without(self, workers: dict[int, Any]) -> Iterator[None]:
        """Let gunicorn see the arbiter as if it had no such `workers`: it would stop them, or start nobody for them."""
        arbiter = self._arbiter
        self._hidden = workers
        arbiter.WORKERS = {pid: worker for pid, worker in arbiter.WORKERS.items() if pid not in workers}
        try:
            yield
        finally:
            arbiter.WORKERS = {**workers, **arbiter.WORKERS}
            self._hidden = {}


def _those_in(present: dict[Any, None], workers: dict[Any, None]) -> dict[Any, None]:
    return {worker: None for worker in workers if worker in present}


def of_this_master() -> Succession | None:
    """Return the succession of the arbiter that runs in this process, made with its first worker; None without one."""
    arbiter = getattr(signal.getsignal(signal.SIGHUP), "__self__", None)
    if not isinstance(arbiter, Arbiter):
        return None
    existing = getattr(arbiter.manage_workers, "__self__", None)
    return existing if isinstance(existing, Succession) else Succession(arbiter)
