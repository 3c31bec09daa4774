"""What 50 streams at once do to everybody else: `python bench/ai.py [streams]` prints how long a canary waits for acks.

One worker with the echo backend, 20 words a second and stream, a Redis of its own; 17 users, at most three requests
each. A client on /ai asks for an answer that costs nothing, over and over; in milliseconds, before and meanwhile.
"""

import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.plain_client import EVENT, Plain
from tests.servers import Node, RedisServer, stopping, token, until

WORDS = 200
PACE_SECONDS = 0.05
LONGEST_SECONDS = 60.0


def connected(node: Node, user: str) -> Plain:
    client = Plain(node.url)
    client.join("/ai", {"token": token(user)})
    return client


def measured(name: str, canary: Plain, busy: "threading.Event", seconds: float) -> None:
    """Print the waiting times of the canary until `busy` is set, or for `seconds`."""
    waits, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline and not busy.is_set():
        began = time.perf_counter()
        canary.call("/ai", "cancel_stream", {"requestId": "none"})
        waits.append((time.perf_counter() - began) * 1000)
        time.sleep(0.01)
    cuts = statistics.quantiles(waits, n=100)
    print(f"{name:22} {len(waits):6} acks, p50 {cuts[49]:7.1f}, p99 {cuts[98]:7.1f}, max {max(waits):7.1f} ms")


def main() -> None:
    streams = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    redis = RedisServer()
    with stopping(redis):
        node = Node(
            application="tests.integration.apps.ai:application",
            REDIS_URL=redis.url,
            AI_BACKEND="echo",
            SOCKET_RATE_LIMIT="0",
            TEST_PACE=str(PACE_SECONDS),
        )
        with stopping(node):
            node.wait_ready()
            run(node, streams)


def run(node: Node, streams: int) -> None:
    canary = connected(node, "canary")
    clients = [connected(node, f"user{number // 3}") for number in range(streams)]
    with stopping(canary, *clients):
        measured("nobody streams", canary, threading.Event(), 3)
        prompt = " ".join(f"word{number}" for number in range(WORDS))
        began, done = time.perf_counter(), threading.Event()
        ended: list[int] = []

        def follow(client: Plain, number: int) -> None:
            request = {"requestId": f"r{number}", "prompt": prompt, "stream": True}
            assert client.call("/ai", "ai_request", request, seconds=LONGEST_SECONDS)["ok"]
            told = client.told("/ai", "ai_stream_end", LONGEST_SECONDS)
            chunks = [m.content[1] for m in client._waiting if m.kind == EVENT and m.content[0] == "ai_stream_chunk"]
            assert told["status"] == "completed" and len(chunks) == WORDS, (told, len(chunks))
            ended.append(number)

        threads = [
            threading.Thread(target=follow, args=(client, number), daemon=True) for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()

        def wait() -> None:
            for thread in threads:
                thread.join()
            done.set()

        threading.Thread(target=wait, daemon=True).start()
        measured(f"{streams} streams at once", canary, done, LONGEST_SECONDS)
        until(lambda: len(ended) == streams, 5, "all streams end")
        took = time.perf_counter() - began
        print(f"{streams * WORDS} chunks in {took:.1f} s: {streams * WORDS / took:.0f} a second")


if __name__ == "__main__":
    main()
