"""The health probe: a node publishes to itself, and is deaf where it doesn't hear that."""

import logging
import time

from gevent.event import Event

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.scripts import Runner

PROBE_SECONDS = 2.0
DEAF_SECONDS = 6.0
_PROBE = b"1"

_rare = RareLog(logging.getLogger("mintflow.channels"))


class HealthProbe:
    """Publishes to `channel`, this node's own, every 2 s, and knows when it came back; at once where `now` is set."""

    def __init__(self, redis: Runner, channel: str) -> None:
        self._redis, self.channel = redis, channel
        self._received_at = -DEAF_SECONDS
        self._first_received = Event()
        self.now = Event()

    @property
    def age(self) -> float:
        """How many seconds ago it came back."""
        return time.monotonic() - self._received_at

    @property
    def receiving(self) -> bool:
        """Tell whether it came back within 6 s."""
        return self.age < DEAF_SECONDS

    def wait_until_received(self, seconds: float) -> bool:
        """Wait at most `seconds` for the first that comes back; return whether it did."""
        return bool(self._first_received.wait(seconds))

    def publish(self) -> None:
        """Send it on its way."""
        try:
            self._redis.command("PUBLISH", self.channel, _PROBE)
        except Unavailable as error:
            _rare.warning(f"the health probe could not be published: {error}")

    def wait(self) -> None:
        """Wait until the next is due."""
        self.now.wait(PROBE_SECONDS)
        self.now.clear()

    def heard(self, message: bytes) -> bool:
        """Note what came on its channel; False where it is something else."""
        if message != _PROBE:
            return False
        self._received_at = time.monotonic()
        self._first_received.set()
        return True
