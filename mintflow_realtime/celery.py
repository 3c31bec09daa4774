"""Tasks of Celery as runs, by its signals: `follow(app, emit, tenant="acme")`, one line beside the app."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

try:
    from celery import signals
    from celery.exceptions import Reject
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] != "celery":
        raise
    raise ImportError("mintflow_realtime.celery needs Celery: pip install celery", name="celery") from _error

from msgspec import UNSET, json

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import RealtimeError
from mintflow_realtime.protocol.flows import RunSnapshot
from mintflow_realtime.protocol.ids import check_tenant
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.services.batch import read_one
from mintflow_realtime.services.record_queue import flush_all
from mintflow_realtime.services.run_scopes.cancels import Cancels
from mintflow_realtime.services.run_scopes.flow_names import FlowNames, FlowOf
from mintflow_realtime.services.run_scopes.keeper import keeper
from mintflow_realtime.services.run_scopes.outbox import Outbox
from mintflow_realtime.services.run_scopes.scopes import current
from mintflow_realtime.services.run_scopes.tasks import TaskRun, failure, group_tags
from mintflow_realtime.services.run_scopes.tasks import current_run as current_run

_ENDS = ("completed", "failed", "cancelled")
# Celery's own, which nobody looks for: one cleans up each night, one asks again and again whether a group is done.
_OWN = frozenset({"celery.backend_cleanup", "celery.chord_unlock"})
# What the next process is told in the message of a task.
_HEADER = "mintflow"

_log = logging.getLogger("mintflow.celery")
_followed: list["_Followed"] = []


def follow(
    app: Any, emit: Emitter, tenant: str, *, flow: FlowOf | None = None, lease: float = 30, terminate: bool = False
) -> None:
    """Make every task of a Celery app a run: its id the task's, its flow the task's name.

    `flow` says another flow by the task's name (a mapping or a callable), or None for a task that is to be no run.
    With `lease` (seconds) a run whose worker dies is told to be lost. `terminate`: who cancels a run that has started
    ends its process; else the task ends itself, by `current_run().check()`. Raises InvalidPayload, TypeError, and
    ValueError where the app is followed already; nothing later: no task fails for being told of.
    """
    # `celery.current_app` stands for another.
    app = getattr(app, "_get_current_object", lambda: app)()
    check_tenant(tenant, "$.tenant")
    read_one(RunEvent, {"type": "flow_started", "lease": lease}, {})
    flows = FlowNames(flow, _OWN)
    if any(one.app is app for one in _followed):
        raise ValueError(f"The app {app.main!r} is followed already")
    _followed.append(_Followed(app, emit, tenant, flows, lease, terminate))


class _Followed:
    """One app: what its signals tell, in every process that has one."""

    def __init__(self, app: Any, emit: Emitter, tenant: str, flows: FlowNames, lease: float, terminate: bool) -> None:
        self.app, self._emit, self._tenant, self._lease, self._terminate = app, emit, tenant, lease, terminate
        self._who = Principal.system(tenant)
        self._flow_of = flows
        self._outbox = Outbox(emit.flows, tenant)
        self._running: dict[tuple[str, int], TaskRun] = {}
        self._cancels: Cancels | None = None
        for signal, hear in (
            (signals.before_task_publish, self._queued),
            (signals.task_prerun, self._begun),
            (signals.task_postrun, self._ended),
            (signals.task_failure, self._failed),
            (signals.task_retry, self._to_be_tried_again),
            (signals.task_revoked, self._revoked),
            (signals.task_rejected, self._unreadable),
            (signals.task_unknown, self._unreadable),
            (signals.worker_init, self._worker_begins),
            (signals.worker_ready, self._worker_ready),
            (signals.worker_shutdown, self._worker_ends),
            (signals.worker_process_shutdown, self._child_ends),
        ):
            signal.connect(partial(_quietly, hear), weak=False)

    # Where a task is sent

    def _queued(self, sender: str, headers: dict[str, Any], **_: Any) -> None:
        run_id, flow_id = headers.get("id"), self._flow_of(str(sender))
        if run_id is None or flow_id is None or (len(_followed) > 1 and sender not in self.app.tasks):
            return
        within = current.get()
        parent = within[0] if within is not None else None
        told: dict[str, Any] = {}
        headers[_HEADER] = told
        if headers.get("retries"):
            # Its next attempt, of which _ended tells. Only who runs it knows which one.
            if isinstance(parent, TaskRun) and parent.run_id == run_id:
                known = {"attempt": parent.next_attempt, "parent": parent.parent}
                told.update({name: value for name, value in known.items() if value is not None})
            return
        if parent is not None and parent.tenant == self._tenant:
            told["parent"] = {"flowId": parent.flow_id, "runId": parent.run_id}
        event = {"type": "flow_queued", **told, **group_tags(headers.get("group"))}
        self._outbox.tell(flow_id, run_id, read_one(RunEvent, event, {}))

    # Where it runs

    def _begun(self, task_id: str, task: Any, **_: Any) -> None:
        flow_id = self._flow_of(task.name)
        if task.app is not self.app or flow_id is None:
            return
        request = task.request
        sent = request.get(_HEADER) or {}
        told = {name: sent[name] for name in ("attempt", "parent") if name in sent}
        if (request.delivery_info or {}).get("redelivered"):
            # The one that it was sent for has begun, and may have ended without a word.
            told.pop("attempt", None)
            if (before := self._snapshot(flow_id, task_id)) is not None and before.status in ("started", "waiting"):
                error = {"type": "WorkerLost", "message": "The task was delivered again before it had ended"}
                self._outbox.tell(flow_id, task_id, RunEvent(type="flow_failed", error=error))
        run = TaskRun(
            self._emit.flows,
            self._tenant,
            flow_id,
            task_id,
            heard_elsewhere=self._cancels is not None,
            lease=self._lease,
            **told,
            **group_tags(request.group),
        )
        self._running[task_id, threading.get_ident()] = run
        run.__enter__()

    def _ended(self, task_id: str, retval: Any = None, state: str | None = None, **_: Any) -> None:
        run = self._running.pop((task_id, threading.get_ident()), None)
        if run is None:
            return
        if state is None:
            # SystemExit, or a signal that ends the process: its parent tells, or the lease.
            run.leave()
            return
        if state in ("SUCCESS", "IGNORED"):
            run.end(type="flow_completed")
            return
        error = retval.exc if state == "RETRY" and isinstance(retval.exc, BaseException) else retval
        told = failure(error)
        run.end(**told)
        if state == "RETRY" and told["type"] == "flow_failed":
            run.queue_again()

    # In the worker's main process, of tasks that it doesn't run, or whose process has died

    def _failed(self, sender: Any, task_id: str, exception: Any = None, **_: Any) -> None:
        if self._is_told_here(sender, task_id) or isinstance(exception, Reject):
            return
        # A time limit is told twice: as it is over, and as the process has died of it.
        before = self._snapshot(self._flow_of(sender.name), task_id)
        if before is None or before.status not in _ENDS:
            self._tell(sender.name, task_id, **failure(exception))

    def _to_be_tried_again(self, sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
        if self._is_told_here(sender, request.id):
            return
        self._tell(sender.name, request.id, **failure(getattr(reason, "exc", None)))
        self._tell(sender.name, request.id, type="flow_queued")

    def _revoked(self, sender: Any, request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:
        if sender.app is self.app:
            reason = "expired" if expired else self._reason(sender.name, request.id)
            reason = reason or ("terminated" if terminated else "revoked")
            self._tell(sender.name, request.id, type="flow_cancelled", reason=reason)

    def _unreadable(self, sender: Any, message: Any, exc: Any = None, **_: Any) -> None:
        headers = message.headers or {}
        if getattr(sender, "app", None) is self.app and "id" in headers and "task" in headers:
            self._tell(headers["task"], headers["id"], **failure(exc))

    # The worker itself

    def _worker_begins(self, sender: Any, **_: Any) -> None:
        # Before it forks, so that children know that somebody hears.
        if sender.app is self.app:
            self._cancels = Cancels(self._emit.flows.control, self._tenant, self._flow_ids, self._revoke)

    def _worker_ready(self, **_: Any) -> None:
        if self._cancels is not None:
            self._cancels.start()

    def _worker_ends(self, **_: Any) -> None:
        if self._cancels is not None:
            self._cancels.stop()

    def _child_ends(self, **_: Any) -> None:
        # It ends without Python's own ways to end.
        keeper.tell_the_last()
        flush_all()

    # What these have in common

    def _flow_ids(self) -> set[str]:
        return {found for name in self.app.tasks if (found := self._flow_of(name)) is not None}

    def _is_told_here(self, task: Any, task_id: str) -> bool:
        """Whether a task is another app's, or runs here, so that _ended tells."""
        return task.app is not self.app or (task_id, threading.get_ident()) in self._running

    def _tell(self, name: str, run_id: str, **told: Any) -> None:
        flow_id = self._flow_of(name)
        if flow_id is not None:
            self._outbox.tell(flow_id, run_id, RunEvent(**told))

    def _snapshot(self, flow_id: str | None, run_id: str) -> RunSnapshot | None:
        """Return a run as it is, if that is known."""
        with suppress(RealtimeError):
            return None if flow_id is None else self._emit.flows.read(self._who, flow_id, run_id).run
        return None

    def _reason(self, name: str, run_id: str) -> str:
        """Return why somebody wants a run cancelled, if that is known."""
        run = self._snapshot(self._flow_of(name), run_id)
        return "" if run is None or run.cancelling is UNSET else json.decode(run.cancelling).get("reason", "")

    def _revoke(self, run_id: str) -> None:
        self.app.control.revoke(run_id, terminate=self._terminate)


def _quietly(hear: Callable[..., None], **told: Any) -> None:
    """Hear a signal; whatever goes wrong is no matter of the task's."""
    try:
        hear(**told)
    except Exception as error:
        _log.warning("a signal of Celery is lost: %s: %s", type(error).__name__, error)
