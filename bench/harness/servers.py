"""The three servers that are compared, and their versions."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from bench.harness.checkouts import Checkout
from bench.harness.cost import cpu_seconds
from bench.harness.processes import BENCH, ROOT, Process, answers, free_port, gunicorn

STOCK_WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"


class Server(Process):
    """A running server; `worker` is the process id of what does the work."""

    name = ""

    def __init__(self, command: list[str], port: int, env: dict[str, str], root: Path = ROOT) -> None:
        self.port = port
        super().__init__(command, env, root)
        try:
            self.wait_for(port)
            # gunicorn's master listens before it has a worker.
            self.wait_until(lambda: self.worker > 0 and answers(port), "the server answers")
        except BaseException:
            self.stop()
            raise

    @property
    def worker(self) -> int:
        """Return its process id; 0 where there is none yet."""
        return next(iter(self.children()), 0)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the worker has used."""
        return cpu_seconds(self.worker)


class Ours(Server):
    """This project's server: gunicorn.conf.py, every limit at its default; of this checkout, or of another."""

    name = "ours"

    def __init__(
        self, redis_url: str, application: str = "ours", workers: int = 1, checkout: Checkout | None = None
    ) -> None:
        port, checkout = free_port(), checkout or Checkout(ROOT, sys.executable)
        env = {"PORT": str(port), "WEB_CONCURRENCY": str(workers), "REDIS_URL": redis_url, "LOG_LEVEL": "warning"}
        arguments = ("-c", "gunicorn.conf.py", f"bench.servers.{application}:application")
        super().__init__(gunicorn(*arguments, python=checkout.python), port, env, checkout.root)


class Stock(Server):
    """Stock python-socketio under gevent-websocket's gunicorn worker."""

    name = "stock"

    def __init__(self, redis_url: str = "", application: str = "stock") -> None:
        port = free_port()
        options = ["-k", STOCK_WORKER, "-w", "1", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
        options += ["--worker-connections", "20000", "--log-level", "warning"]
        super().__init__(gunicorn(*options, f"bench.servers.{application}:application"), port, {"REDIS_URL": redis_url})


class Node(Server):
    """Node's Socket.IO; `adapter` is `redis` or `streams` where the script wants one."""

    name = "node"

    def __init__(self, redis_url: str = "", script: str = "node", adapter: str = "") -> None:
        port = free_port()
        env = {"PORT": str(port), "NODE_ENV": "production", "ADAPTER": adapter, "REDIS_URL": redis_url}
        super().__init__(["node", "--expose-gc", str(BENCH / "servers" / f"{script}.mjs")], port, env)

    @property
    def worker(self) -> int:
        return self.pid


class Echo(Server):
    """A bare loop of gevent's."""

    name = "bare"

    def __init__(self) -> None:
        port = free_port()
        super().__init__([sys.executable, "-m", "bench.servers.bare"], port, {"PORT": str(port)})

    @property
    def worker(self) -> int:
        return self.pid


def versions() -> dict[str, str]:
    """Return the versions of what is compared, as installed."""
    found = {name: importlib.metadata.version(name) for name in ("python-socketio", "gevent", "gunicorn")}
    for name in ("socket.io", "ws", "@socket.io/redis-adapter", "@socket.io/redis-streams-adapter"):
        found[f"npm {name}"] = json.loads((BENCH / "node_modules" / name / "package.json").read_text())["version"]
    found["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return found
