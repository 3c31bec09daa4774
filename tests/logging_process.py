"""A process that logs 0, 1, 2… until its input ends: `python -m tests.logging_process URL PREFIX`."""

import itertools
import select
import sys

from fanout.publisher import Caps, Publisher
from protocol.scripts import Keys
from services.logs import Logs
from stores.client import RedisClient, connect
from stores.logs import LogStore


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
