"""A publisher of 1,000 log records that is killed in the middle: `python -m tests.publishing_batch TENANT SLICES`.

Redis is the settings'. It kills itself as soon as SLICES slices of the batch are published.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.logs import NewLog
from mintflow_realtime.protocol.scripts import Arg, Script
from mintflow_realtime.settings.settings import Settings
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect

RECORDS = 1_000


class Dying(RedisClient):
    """Kills its process with the answer to a slice's script."""

    def __init__(self, url: str, slices: int) -> None:
        super().__init__(connect(url))
        self._slices = slices

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Arg], *, asking: bool = False) -> Any:
        answer = super().run(script, keys, args)
        if answer == self._slices and isinstance(answer, int):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def main(tenant: str, slices: int) -> None:
    settings = Settings.from_env()
    with Emitter(settings=settings, redis=Dying(settings.redis_url, slices)) as emit:
        records = [NewLog(log_level="info", message=str(number)) for number in range(RECORDS)]
        emit.logs.publish(Principal.system(tenant), records)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
