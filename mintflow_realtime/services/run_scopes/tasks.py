"""Runs of tasks: told by an engine's hooks instead of a block, with a start elsewhere and a next attempt later."""

from collections.abc import Iterator
from typing import Any, Self

from msgspec import UNSET

from mintflow_realtime.protocol.run_events import RunEvent
from mintflow_realtime.protocol.runs import Control
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.run_scopes.scopes import NodeScope, RunScope, current, end_of


class TaskRun(RunScope):
    """A run of a task, from where it starts. `heard_elsewhere`: another process takes who wants it cancelled."""

    def __init__(
        self, flows: Flows, tenant: str, flow_id: str, run_id: str, *, heard_elsewhere: bool, **of_run: Any
    ) -> None:
        super().__init__(flows, tenant, flow_id, run_id, **of_run)
        self._heard_elsewhere = heard_elsewhere
        self.parent = of_run.get("parent")

    @property
    def next_attempt(self) -> int | None:
        """The number of the next attempt; None where Redis has not said which one this is."""
        known = self.attempt or self._started.attempt
        return known + 1 if isinstance(known, int) else None

    def queue_again(self) -> None:
        """Tell, after an end, that the next attempt waits for its turn."""
        known = self.next_attempt
        self._tell(RunEvent(type="flow_queued", attempt=UNSET if known is None else known))

    def _note_heard(self) -> None:
        if not self._heard_elsewhere:
            super()._note_heard()


class NoRun(RunScope):
    """What code is in that no run has begun for: whatever it tells is told to nobody."""

    def __init__(self) -> None:
        self.flow_id, self.run_id, self.attempt = "", "", None

    def node(self, node_id: str) -> NodeScope:
        """Return a node that nobody is told of."""
        return _NoNode(self, node_id)

    def progress(self, percent: float, **data: Any) -> None:
        """Tell nobody."""

    def check(self) -> None:
        """Go on: nobody can want it cancelled."""

    def signals(self, timeout: float | None = None) -> Iterator[Control]:
        """Yield nothing, at once."""
        return iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exit: Any) -> None:
        pass

    def _again(self) -> RunScope:
        return self


class _NoNode(NodeScope):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exit: Any) -> None:
        pass

    def _again(self) -> NodeScope:
        return self


def current_run() -> RunScope:
    """Return the run that this code runs in: of its task, as a rule; elsewhere one whose methods do nothing."""
    within = current.get()
    return NoRun() if within is None else within[0]


def failure(error: Any) -> dict[str, Any]:
    """Return how a run ends by an error: as failed, or as cancelled."""
    if not isinstance(error, Exception):
        return {"type": "flow_failed"} if error is None else {"type": "flow_failed", "error": repr(error)}
    return end_of("flow", type(error), error, error.__traceback__)


def group_tags(group: Any) -> dict[str, Any]:
    """Return the tag by which the tasks of a group, or of a chord's header, are found."""
    tag = f"group:{group}"
    return {"tags": [tag]} if group and len(tag) <= 64 else {}
