"""What can be read of logs and runs, whichever way."""

from typing import Any, Protocol

# How soon what is new in Redis is seen; each look costs it one short script.
LOOK_SECONDS = 0.25

Record = dict[str, Any]
Run = dict[str, Any]
RunId = tuple[str | None, str]


class Away(Exception):
    """The source can't be read at the moment; the text is a sentence. What was read stands, and reading goes on."""


class LogSource(Protocol):
    """Log records of one tenant. Every method raises Away."""

    def page(self, criteria: dict[str, Any]) -> tuple[list[Record], str | None]:
        """Return records as `filter_logs` gives them, newest last, and the cursor to go on from."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there may be something new, at most `seconds`."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class RunSource(Protocol):
    """Runs of one tenant. Every method raises Away."""

    def changed(self, seconds: float) -> set[RunId]:
        """Return the runs (flow, run) that have had events since the last call; wait for one at most `seconds`."""
        ...

    def read(self, run: RunId) -> Run | None:
        """Return a run's snapshot, as `subscribe_flow` gives it; without a flow, the one that ran last."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
