"""One publishing process of several: `python -m tests.publishing URL PREFIX COUNT NAME`, numbered in its own order."""

import sys

from mintflow_realtime.fanout.publish.publisher import Caps, Publisher, plain_event
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect


def main(url: str, prefix: str, count: int, name: str) -> None:
    client = RedisClient(connect(url))
    publisher = Publisher(client, Keys(prefix), Caps())
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        publisher.publish("acme", "/n", [plain_event(("acme:",), "e", [name, number])])
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
