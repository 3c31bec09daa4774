"""Real servers of `tests/transport_app.py`, and real clients of them, as processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.ports import free_port

ROOT = Path(__file__).parent.parent
STOCK_WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait for a condition, or fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (met := condition()):
        assert time.monotonic() < deadline, "The condition was not met in time"
        time.sleep(0.02)
    return met


def answers(url: str) -> bool:
    try:
        return requests.get(url + "/node", timeout=1).ok
    except requests.RequestException:
        return False


def gunicorn(
    listener: socket.socket, *arguments: str, application: str = "tests.transport_app:application", **environ: str
) -> subprocess.Popen[str]:
    """Start gunicorn on a listening socket of ours."""
    command = [sys.executable, "-m", "gunicorn", "--config", "/dev/null", "--no-control-socket"]
    command += ["--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "1", *arguments]
    return subprocess.Popen(
        [*command, application],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")} | environ,
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def workers(count: int, directory: Path, stock: bool = False) -> Iterator[str]:
    """Run `count` gunicorn workers and yield their URL. Our own must leave no traceback."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environ = {"STOCK": "1"} if stock else {"AFFINITY_DIR": str(directory)}
        worker = STOCK_WORKER if stock else "mintflow_realtime.transport.worker.gunicorn_worker.Worker"
        arguments = ["--workers", str(count), "--worker-class", worker, "--worker-connections", "2000"]
        with gunicorn(listener, *arguments, **environ) as process:
            try:
                until(lambda: answers(url), 30)
                if not stock:
                    until(lambda: len(list(directory.glob("*.sock"))) == count, 30)
                yield url
            finally:
                written = stop(process)
    assert stock or "Traceback" not in written, written


@contextmanager
def single() -> Iterator[str]:
    """Run the application in one process, without gunicorn."""
    port = free_port()
    command = [sys.executable, "-m", "tests.transport_app", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}"), 30)
            yield f"http://127.0.0.1:{port}"
        finally:
            written = stop(process)
    assert written == ""
    assert process.returncode == 0


def stop(process: subprocess.Popen[str]) -> str:
    """End a server and return what it wrote to its standard error."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=15)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]


def javascript(script: str, *arguments: object) -> dict[str, Any]:
    """Run `tests/js/{script}.mjs` and return what it reports."""
    return _report(["node", f"tests/js/{script}.mjs", *map(str, arguments)])


def python_clients(*arguments: object) -> dict[str, Any]:
    """Run `tests/transport_python_clients.py` and return what it reports."""
    return _report([sys.executable, "-m", "tests.transport_python_clients", *map(str, arguments)])


def _report(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))
