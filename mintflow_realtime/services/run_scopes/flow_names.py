"""Which flow a task is a run of, by its name."""

import logging
from collections.abc import Callable, Mapping, Set
from functools import lru_cache

from mintflow_realtime.protocol.ids import check_id

# Names of which the flow is remembered.
MOST_NAMES = 4096
FlowOf = Callable[[str], str | None] | Mapping[str, str | None]

_log = logging.getLogger("mintflow.runs")


class FlowNames:
    """The flow of a task by its name: what `given` says, else the name itself; None where it is to be no run."""

    def __init__(self, given: FlowOf | None, left_out: Set[str]) -> None:
        if given is not None and not callable(given) and not isinstance(given, Mapping):
            raise TypeError(f"flow is a mapping of tasks' names, or a callable, not {type(given).__name__}")
        self._given, self._left_out = given, left_out
        self._known = lru_cache(MOST_NAMES)(self._find)

    def __call__(self, name: str) -> str | None:
        """Return a task's flow; None where it is no run, as where its flow can't be told, which is logged."""
        return self._known(name)

    def _find(self, name: str) -> str | None:
        if name in self._left_out:
            return None
        try:
            found = self._ask(name)
            return None if found is None else check_id(found, "$.flowId")
        except Exception as error:
            _log.warning("the task %s is no run, as its flow can't be told: %s: %s", name, type(error).__name__, error)
            return None

    def _ask(self, name: str) -> str | None:
        if self._given is None:
            return name
        return self._given.get(name, name) if isinstance(self._given, Mapping) else self._given(name)
