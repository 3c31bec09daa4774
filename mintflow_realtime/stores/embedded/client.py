"""A client of the embedded Redis that starts or adopts it with its first command: whoever comes first finds it."""

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis

from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.scripts import Arg, Script
from mintflow_realtime.stores.embedded import embedded
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect

# After a start that failed, calls fail at once for this long: some take ten seconds to fail.
PAUSE_SECONDS = 5.0


class EmbeddedClient(RedisClient):
    """A `RedisClient` of the Redis in `data_dir`. This process, and what it forks later, keeps that running."""

    def __init__(self, data_dir: str, wait_replicas: int = 0, called: str = "") -> None:
        again = partial(connect, embedded.url(data_dir))
        super().__init__(again(), wait_replicas, called=called, again=again)
        self._data_dir = data_dir
        self._adopted = False
        self._refused: tuple[float, str] | None = None

    def _begin(self, client: "redis.Redis") -> None:
        super()._begin(client)
        # In a forked child too, whose parent may have held it.
        self._adopting = threading.Lock()

    def adopt(self) -> None:
        """Start the Redis or adopt the one that runs, once. Raises EmbeddedRedisError."""
        with self._adopting:
            if not self._adopted:
                # Held until this process ends.
                embedded.hold_users_lock(self._data_dir)
                embedded.ensure_running(self._data_dir)
                self._adopted = True

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        """Run a script as `RedisClient` does."""
        if not self._adopted:
            self._adopt_or_raise()
        return super().run(script, keys, args, asking=asking)

    def command(self, *args: Arg, asking: bool = False) -> Any:
        """Send one command as `RedisClient` does."""
        if not self._adopted:
            self._adopt_or_raise()
        return super().command(*args, asking=asking)

    def _adopt_or_raise(self) -> None:
        if self._refused is not None and time.monotonic() < self._refused[0]:
            raise Unavailable(self._refused[1])
        try:
            self.adopt()
        except embedded.EmbeddedRedisError as error:
            self._refused = (time.monotonic() + PAUSE_SECONDS, str(error))
            raise Unavailable(str(error)) from None
