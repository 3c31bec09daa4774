"""A process that logs 0, 1, 2… until its input ends: `python -m tests.logging_process URL PREFIX`."""

import itertools
import select
import sys

from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect


def main(url: str, prefix: str) -> None:
    client, keys = RedisClient(connect(url)), Keys(prefix)
    logs = Logs(Publisher(client, keys, Caps()), LogStore(client, keys))
    for number in itertools.count():
        logs.append("acme", message=str(number))
        if select.select([sys.stdin], [], [], 0.001)[0]:
            break
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
