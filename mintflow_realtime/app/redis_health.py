"""What is wrong with a node's Redis beyond not answering, looked at when the node starts and now and then."""

import logging
from collections.abc import Callable, Iterator

import gevent
from gevent.event import Event

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.stores.redis.self_check import CheckResult, Outcome

# A look is some 60 commands on a connection of its own.
LOOK_SECONDS = 60.0
# Whoever has just given the user a right shouldn't wait long.
AGAIN_SECONDS = 2.0
# That Redis doesn't answer is found out anew at each question; how far off it is, is for `mintflow check`, since a node
# that is busy itself would take it for far.
_PASSED_OVER = {"redis", "latency"}

_log = logging.getLogger("mintflow.redis")


class RedisHealth:
    """Remembers what the last look found. `look` yields what `check_redis` does."""

    def __init__(self, look: Callable[[], Iterator[CheckResult]]) -> None:
        self._look = look
        self._found: dict[str, CheckResult] = {}
        self._reached = False
        self.looked = Event()
        """Set once a look has come to its end, whatever it found."""

    def start(self) -> "gevent.Greenlet[..., None]":
        """Look now, and again and again."""
        return start_loop("looking at Redis", self.look, lambda: gevent.sleep(self._pause()))

    def look(self) -> None:
        """Look once, and log what was not so the last time."""
        found, self._reached = {}, True
        for result in self._look():
            if result.outcome is Outcome.OK:
                continue
            if result.name == "redis":
                self._reached = False
            found[result.name] = result
            before = self._found.get(result.name)
            if result.name != "latency" and (before is None or before.found != result.found):
                level = logging.ERROR if result.outcome is Outcome.FAILED else logging.WARNING
                _log.log(level, "Redis: %s. %s", result.found, result.advice)
        self._found = found
        self.looked.set()

    def faults(self) -> list[str]:
        """Return what keeps this node from being ready, a sentence each. Never Redis's own words."""
        return self._sentences(Outcome.FAILED)

    def warnings(self) -> list[str]:
        """Return what is worth a look, a sentence each."""
        return self._sentences(Outcome.WARNING)

    def _sentences(self, outcome: Outcome) -> list[str]:
        found = self._found.items()
        return [one.found for name, one in found if one.outcome is outcome and name not in _PASSED_OVER]

    def _pause(self) -> float:
        return LOOK_SECONDS if self._reached and not self.faults() else AGAIN_SECONDS
