"""Runs and nodes as `with` blocks and decorators: what happens in them is told by itself, and never fails the job."""

import functools
import logging
import secrets
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import UNSET, json, structs

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import RealtimeError, RunCancelled, Unavailable
from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.runs import Control
from mintflow_realtime.services.batch import read_one
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.run_scopes.keeper import keeper

# Of events that wait for Redis to be back; the oldest but the first, which began the run, go first.
MOST_WAITING = 1000
# How often a run asks by itself whether somebody wants it cancelled.
ASK_SECONDS = 1.0
# The end of a traceback says more than its beginning.
TRACEBACK_CHARACTERS = 20_000

_log = logging.getLogger("mintflow.runs")
Function = TypeVar("Function", bound=Callable[..., Any])
Exit = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

current: ContextVar[tuple["RunScope", str | None] | None] = ContextVar("mintflow_run", default=None)
"""The run, and the node, that this code runs in."""


class Failure(Exception):
    """Ends a run and a node as failed with its text alone: what failed is no Python code, and has no traceback."""


class _Scope:
    """What runs and nodes have in common: a block, or a function each of whose calls is one."""

    _token: Token[Any] | None = None

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(self, *exit: Any) -> None:
        raise NotImplementedError

    def _again(self) -> "_Scope":
        raise NotImplementedError

    def __call__(self, function: Function) -> Function:
        """Make each call of `function` a run, or a node, of its own."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return call  # type: ignore[return-value]


class RunScope(_Scope):
    """One run of a flow, while it is entered: started, then completed, failed or cancelled.

    What can't be told while Redis is away is kept, up to 1,000 events, and told later, in order. Safe in threads.
    """

    def __init__(self, flows: Flows, tenant: str, flow_id: str, run_id: str | None, **of_run: Any) -> None:
        self._given = (flows, tenant, flow_id, run_id, of_run)
        self._flows, self._who = flows, Principal.system(tenant)
        self.tenant, self.flow_id = tenant, flow_id
        self.run_id = run_id or secrets.token_hex(8)
        self.attempt: int | None = None
        self._of_run = of_run
        self._waiting: deque[tuple[RunEvent, str]] = deque()
        self.forked()
        self._cancelled: str | None = None
        self._asked_at, self._ended = 0.0, False
        self._started = read_one(RunEvent, {"type": "flow_started", **of_run}, {})

    def node(self, node_id: str) -> "NodeScope":
        """Return a node of this run, as a block or a decorator."""
        return NodeScope(self, node_id)

    def progress(self, percent: float, **data: Any) -> None:
        """Tell how far the run is, in percent. Raises RunCancelled where somebody wants that."""
        self._tell(RunEvent(type="flow_progress", progress=percent, data=data or None))
        self.check()

    def check(self) -> None:
        """Raise RunCancelled where somebody wants the run cancelled; asks at most once a second."""
        now = time.monotonic()
        if self._cancelled is None and now - self._asked_at >= ASK_SECONDS:
            self._ask()
        if self._cancelled is not None:
            raise RunCancelled(self._cancelled)

    def signals(self, timeout: float | None = None) -> Iterator[Control]:
        """Yield signals for this run as they come, until none has come for `timeout` seconds.

        Raises RunCancelled where somebody wants that. While Redis is away, it waits.
        """
        last = time.monotonic()
        while timeout is None or time.monotonic() - last < timeout:
            self.check()
            try:
                left = 0.5 if timeout is None else min(0.5, max(0.0, last + timeout - time.monotonic()))
                found = self._flows.control.take_of_run(
                    self._who.tenant, self.flow_id, self.run_id, "signal", left, most=1
                )
            except Unavailable:
                time.sleep(ASK_SECONDS / 2)
                continue
            for one in found:
                yield one
                last = time.monotonic()

    def __enter__(self) -> Self:
        self._tell(self._started)
        self._asked_at = time.monotonic()
        keeper.add(self)
        self._token = current.set((self, None))
        return self

    def __exit__(self, *exit: Any) -> None:
        self.end(**end_of("flow", *exit))

    def end(self, **told: Any) -> None:
        """Leave the run, and tell how it has ended: the fields of its last event."""
        self.leave()
        self._tell(RunEvent(**told))

    def leave(self) -> None:
        """Leave the run without a word; its lease is renewed no more."""
        if self._token is not None:
            current.reset(self._token)
        self._ended = True

    def keep(self) -> bool:
        """Renew the lease where a third of it is over, and tell what waits; the keeper's thread calls it."""
        self._flush()
        lease = self._started.lease
        if not self._ended and lease is not None and time.monotonic() - self._asked_at >= lease / 3:
            self._ask()
        return not self._ended or bool(self._waiting)

    def forked(self) -> None:
        """Have new locks: in a child of a fork, nobody would let go of those that a thread of the parent held."""
        self._lock, self._order = threading.Lock(), threading.RLock()

    def _again(self) -> "RunScope":
        flows, tenant, flow_id, run_id, of_run = self._given
        return RunScope(flows, tenant, flow_id, run_id, **of_run)

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            beaten = self._flows.beat(self._who, self.flow_id, self.run_id)
            if beaten.cancelling is not UNSET:
                self._note_heard()
                self._cancelled = json.decode(beaten.cancelling).get("reason", "")
        except RealtimeError as error:
            # It asks again; and where the run isn't known yet, its start waits to be told.
            _log.debug("run %s can't ask: %s", self.run_id, error)

    def _note_heard(self) -> None:
        """Take what asks for the end of this run, so that nobody else is told of it."""
        self._flows.control.take_of_run(self._who.tenant, self.flow_id, self.run_id, "cancel")

    def _tell(self, event: RunEvent) -> None:
        with self._lock:
            self._waiting.append((event, secrets.token_hex(8)))
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[1]
        self._flush()

    def _flush(self) -> None:
        """Tell what waits, in order; what Redis can't take now stays, and what is refused is let go."""
        with self._order:
            while self._waiting:
                event, key = self._waiting[0]
                of_flow = event.type.startswith("flow_") and event.type != "flow_started"
                if of_flow and self.attempt is not None and event.attempt is UNSET:
                    event = structs.replace(event, attempt=self.attempt)
                try:
                    told = self._flows.publish(self._who, self.flow_id, self.run_id, [event], key)
                    if event.type == "flow_started":
                        self.attempt = told.payload["attempt"]
                except Unavailable:
                    return
                except Exception as error:
                    # Who begins the next attempt may be faster than who says that it waits.
                    level = logging.DEBUG if event.type == "flow_queued" else logging.WARNING
                    _log.log(level, "%s of run %s was refused: %s", event.type, self.run_id, error)
                with self._lock:
                    if self._waiting and self._waiting[0][1] == key:
                        self._waiting.popleft()


class NodeScope(_Scope):
    """One node of a run, while it is entered: started, then completed, failed or cancelled."""

    def __init__(self, run: RunScope, node_id: str) -> None:
        self._run, self.node_id = run, node_id

    def __enter__(self) -> Self:
        self._run._tell(read_one(RunEvent, {"type": "node_started", "nodeId": self.node_id}, {}))
        self._token = current.set((self._run, self.node_id))
        return self

    def __exit__(self, *exit: Any) -> None:
        if self._token is not None:
            current.reset(self._token)
        self._run._tell(RunEvent(node_id=self.node_id, **end_of("node", *exit)))

    def _again(self) -> "NodeScope":
        return NodeScope(self._run, self.node_id)


def end_of(subject: str, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> dict[str, Any]:
    """Return what the end of a block is told as: its type, and why."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return {"type": f"{subject}_completed"}
    if isinstance(error, (RunCancelled, KeyboardInterrupt)):
        reason = str(error) or ("interrupted" if isinstance(error, KeyboardInterrupt) else "")
        return {"type": f"{subject}_cancelled", "reason": reason[:1000] or None}
    if isinstance(error, Failure):
        return {"type": f"{subject}_failed", "error": str(error)}
    try:
        message = str(error)
    except Exception:
        message = ""
    lines = "".join(traceback.format_exception(kind, error, trace))[-TRACEBACK_CHARACTERS:]
    return {
        "type": f"{subject}_failed",
        "error": {"type": type(error).__name__, "message": message, "traceback": lines},
    }
