"""What others feel of abuse: `python -m bench.abuse [word in a name…]`, under ten minutes, on loopback.

A canary, in a process of its own, asks for an ack forty times a second all the while. Of each abuse it is printed how
long the canary's acks took at the 99th percentile and at worst, how long the server's loop was held (CPU time of its
longest turn), and what the abuser was told. Delays are of the whole machine, so another's work is in them; the loop's
turns are the server's alone. The exit code is 1 where a turn was longer than its target, or a worker has died.
"""

import json
import subprocess
import sys
import time
import urllib.request

from bench.abuse.attacks import KEY, Missed, attacks
from bench.harness.processes import ROOT, free_port, gunicorn
from bench.harness.servers import Server

MOST_SECONDS = 570.0
SETTLE_SECONDS = 0.3


class Canary:
    """Another client's acks."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "bench.abuse.canary", str(port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def take(self) -> dict[str, float]:
        """Return the delays since the last time, in milliseconds: `p99` and `worst`."""
        assert self._process.stdin is not None
        self._process.stdin.write("take\n")
        self._process.stdin.flush()
        found: dict[str, float] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def main(words: list[str]) -> int:
    """Run those whose name has one of `words` in it, or all."""
    port = free_port()
    env = {"PORT": str(port), "WEB_CONCURRENCY": "1", "LOG_LEVEL": "error", "API_KEYS": f"{KEY}:acme"}
    env["SOCKET_ANONYMOUS_SCOPE"] = "logs:read,flows:read,workspaces:read,workspaces:write,ai:use"
    server = Server(gunicorn("-c", "gunicorn.conf.py", "bench.abuse.app:application"), port, env)
    canary, late, began, worker = None, 0, time.monotonic(), server.worker
    try:
        canary = Canary(port)
        print(f"{'abuse':42}{'p99 ms':>8}{'worst':>8}{'target':>8}{'held ms':>9}{'target':>8}  told")
        for attack in attacks():
            if words and not any(word in attack.name for word in words):
                continue
            if time.monotonic() - began > MOST_SECONDS:
                print(f"{attack.name:42} left out: time is up")
                continue
            canary.take(), _held(port)
            told = attack.act(port)
            time.sleep(SETTLE_SECONDS)
            felt, held = canary.take(), _held(port)
            missed = held > attack.most_held or isinstance(told, Missed)
            late += missed
            print(
                f"{attack.name:42}{felt['p99']:8.1f}{felt['worst']:8.1f}{attack.most_delay:8.0f}"
                f"{held:9.1f}{attack.most_held:8.0f}{' !' if missed else '  '} {told}",
                flush=True,
            )
        killed = server.worker != worker
        print(f"{late} over their target; {'a worker was killed' if killed else 'no worker was killed'}")
        return 1 if late or killed else 0
    finally:
        if canary is not None:
            canary.stop()
        server.stop()


def _held(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/held", timeout=60) as answer:
        return float(json.loads(answer.read()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
