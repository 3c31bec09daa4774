"""Another client, in a process of its own: its acks' delays. Each line on stdin is answered with those since the last.

python -m bench.abuse.canary PORT
"""

import json
import select
import sys
import time

from bench.abuse.client import Client

PERIOD = 0.025


def main() -> None:
    client, delays = Client(int(sys.argv[1]), "/logs"), []
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        client.call("/logs", '["unsubscribe_logs"]')
        delays.append((time.monotonic() - began) * 1000)
        while select.select([sys.stdin], [], [], max(0.0, PERIOD - (time.monotonic() - began)))[0]:
            if not sys.stdin.readline():
                return
            delays.sort()
            print(json.dumps({"worst": delays[-1], "p99": delays[int(len(delays) * 0.99)], "acks": len(delays)}))
            sys.stdout.flush()
            delays = [0.0]


if __name__ == "__main__":
    main()
