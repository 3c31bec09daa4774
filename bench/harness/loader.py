"""The load generator's remote control: one Node process, JSON lines both ways."""

import json
import select
import subprocess
from typing import Any

from bench.harness.processes import BENCH

ANSWER_SECONDS = 120.0


class LoadError(Exception):
    """The generator could not do what it was asked for."""


class Loader:
    """One load generator; `stop` closes all its connections."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(BENCH / "clients" / "main.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def do(self, name: str, /, **options: Any) -> dict[str, Any]:
        """Have one measure of `measures.mjs` done. Raises LoadError, also where a connection broke."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **options}).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise LoadError(f"{name} took more than {ANSWER_SECONDS:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise LoadError(f"the load generator ended during {name}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(answer["error"])
        if answer["broken"]:
            raise LoadError(f"{answer['broken']} connections broke during {name}")
        return answer

    def open(self, port: int, count: int, **options: Any) -> dict[str, Any]:
        """Connect `count` clients to /bench."""
        return self.do("open", port=port, count=count, **options)

    def call(self, event: str, *args: Any, **options: Any) -> Any:
        """Emit an event from the first client and return its answer."""
        return self.do("call", event=event, args=list(args), **options)["answer"]

    def stop(self) -> None:
        """End the generator."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait(5)
        self._process.stdin.close()
        self._process.stdout.close()
