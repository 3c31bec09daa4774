"""The examples of docs/publishing.md, taken from the page and run as it says."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import NotFound
from mintflow_realtime.protocol.logs import FilterLogs
from tests.servers import PYTHON_PATH, ROOT, RedisServer, stopping, until

PAGE = (ROOT / "docs" / "publishing.md").read_text()
FILES = dict(re.findall(r"^`(\w+\.py)`:\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
EVERYBODY = Principal.system("default")
NAMES = [f"invoice-{number}" for number in range(25)]


class Place:
    """A folder with the page's files, and what is published from it."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        for name, text in FILES.items():
            (folder / name).write_text(text)
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{PYTHON_PATH}{os.pathsep}{folder}",
            "REDIS_URL": server.url,
            "HOME": str(folder),
        }
        self.emit = Emitter(server.url)

    def run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[Path]:
        """Run a command until the end; give the file of its output."""
        output = self.folder / "out"
        with open(output, "wb") as out:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield output
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)

    def messages(self, **criteria: Any) -> list[str]:
        page = self.emit.logs.read(EVERYBODY, FilterLogs(limit=1000, **criteria))
        return [re.search(rb'"message":"([^"]*)"', bytes(record))[1].decode() for record in page.logs]  # type: ignore[index]

    def status(self, flow: str, run: str) -> str:
        with contextlib.suppress(NotFound):
            return self.emit.flows.read(EVERYBODY, flow, run).run.status
        return ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    server = RedisServer()
    with stopping(server):
        found = Place(tmp_path, server)
        with found.emit:
            yield found


def test_every_example_is_here() -> None:
    assert set(FILES) == {"report.py", "shop.py", "tasks.py", "jobs.py", "pool.py", "service.py"}
    assert PAGE.count("```python") == len(FILES)
    for text in FILES.values():
        assert '"default"' in text and "mintflow_realtime" in text


def test_a_script(place: Place) -> None:
    place.run(sys.executable, "report.py")
    assert place.status("report", "r-1") == "completed" and place.messages() == ["42 invoices read"]


def test_threads(place: Place) -> None:
    place.run(sys.executable, "pool.py")
    assert sorted(place.messages()) == sorted(f"invoice {number} read" for number in range(500))


def test_asyncio(place: Place) -> None:
    place.run(sys.executable, "service.py")
    assert sorted(place.messages()) == sorted(f"invoice {number} read" for number in range(100))


@pytest.mark.parametrize(("module", "flow"), [("tasks", "invoices"), ("shop", "shop.import_invoices")])
def test_celery(place: Place, module: str, flow: str) -> None:
    """The command is the page's, but that it says less."""
    command = re.search(rf"^\$ (celery -A {module} .*)$", PAGE, re.MULTILINE)
    assert command is not None and shutil.which("celery", path=place.env["PATH"])
    with place.running(*command[1].split(), "--without-mingle", "--without-gossip", "--loglevel", "info") as output:
        until(lambda: " ready." in output.read_text(), 60, "the worker is ready")
        call = f"import sys, {module}; print(*({module}.import_invoices.delay(sys.argv[1:]).id for _ in range(8)))"
        done = subprocess.run(
            [sys.executable, "-c", call, *NAMES],
            cwd=place.folder,
            env=place.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        runs = done.stdout.split()
        until(
            lambda: all(place.status(flow, run) == "completed" for run in runs),
            60,
            "all tasks have published",
        )
        read = [f"{name} read" for name in NAMES]
        for run in runs:
            until(lambda run=run: [text for text in place.messages(run_id=run) if text.endswith(" read")] == read)


def test_rq(place: Place) -> None:
    command = re.search(r"^\$ (rq worker .*)$", PAGE, re.MULTILINE)
    assert command is not None
    call = (
        "import sys, redis, rq; queue = rq.Queue(connection=redis.Redis.from_url(sys.argv[1]))\n"
        "print(*(queue.enqueue('jobs.import_invoices', sys.argv[2:]).id for _ in range(3)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", call, place.env["REDIS_URL"], *NAMES],
        cwd=place.folder,
        env=place.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    place.run(*command[1].replace("$REDIS_URL", place.env["REDIS_URL"]).split(), "--burst")
    for run in done.stdout.split():
        state = place.emit.flows.read(EVERYBODY, "invoices", run).run
        assert state.status == "completed" and set(state.nodes) == set(NAMES)
