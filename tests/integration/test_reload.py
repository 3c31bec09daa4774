"""A HUP takes nothing away: the old workers go when the new ones serve, and stay where those can't."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.processes import Served
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, SECRET, free_port, stopping, until

pytestmark = pytest.mark.independent

WORKER = ("-k", "mintflow_realtime.transport.worker.Worker", "--no-control-socket", "-b", "127.0.0.1:{port}", "-w", "2")
OURS = ("-c", "python:mintflow_realtime.app.gunicorn", "-b", "127.0.0.1:{port}", "-w", "2")
APP = """
import os, time
import socketio
from flask import Flask
from mintflow_realtime import SocketManager
app = Flask("shop")
realtime = SocketManager(app)
class Mine(socketio.Namespace):
    def on_pid(self, sid):
        return os.getpid()
realtime.register_namespace(Mine("/mine"), authenticate=False)
application = realtime.wsgi_app
@app.get("/version")
def version():
    return VERSION
@app.get("/pid")
def pid():
    return str(os.getpid())
"""
GIVEN_UP = "The 2 of before serve on, as they were: mend it and send HUP again."


class Shop:
    """An application in a folder of its own, whose code can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("one")

    def write(self, version: str, seconds: float = 0.0, text: str = "") -> None:
        """Let the next workers serve `version` after an import of `seconds`; `text` comes first."""
        (self.folder / "shop.py").write_text(
            f"{text}\nimport time\ntime.sleep({seconds})\nVERSION = {version!r}\n{APP}"
        )

    def serve(self, redis: PrivateRedis, *options: str, **env: str) -> Served:
        settings = {"JWT_SECRET": SECRET, "SOCKET_RATE_LIMIT": "0", "DRAIN_SECONDS": "1", "REDIS_URL": redis.url}
        prefix = f"hup{time.time_ns()}"
        command = ("-m", "gunicorn", *options, "shop:application")
        return Served(*command, cwd=self.folder, **{"REDIS_PREFIX": prefix, **settings, **env}).ready("/readyz")


@pytest.fixture
def shop() -> Iterator[Shop]:
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    yield Shop(path)
    shutil.rmtree(path, ignore_errors=True)


def version(server: Served) -> str:
    return requests.get(server.url + "/version", timeout=10).text


def workers(server: Served) -> set[int]:
    pid = server.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def two_workers(server: Served) -> set[int]:
    """Return both workers when both have answered."""
    answered: set[int] = set()

    def both() -> bool:
        answered.add(int(requests.get(server.url + "/pid", timeout=10).text))
        return len(answered) == 2

    until(both, 30, "two workers answer")
    return answered


def hup(server: Served) -> None:
    server.process.send_signal(signal.SIGHUP)


def replaced(server: Served, old: set[int], seconds: float = 30) -> None:
    until(lambda: len(workers(server)) == 2 and not workers(server) & old, seconds, "two new workers")


class Traffic:
    """Requests and a stock client's commands without a pause; what failed, and when each was answered."""

    def __init__(self, server: Served) -> None:
        self.failed: list[str] = []
        self.answered: list[float] = []
        self.acked: list[float] = []
        self._url, self._over = server.url, threading.Event()
        options = json.dumps({"transports": ["websocket"]})
        self._client = subprocess.Popen(
            ["node", "tests/js/comeback.mjs", server.url, options, "/mine"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._client.stdout is not None
        assert '"connect"' in self._client.stdout.readline()
        self._threads = [threading.Thread(target=act) for act in (self._request, self._ask, self._listen)]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        until(lambda: self.acked and self.answered, 20)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        assert self._client.stdin is not None and self._client.stdout is not None
        self._threads[0].join(20)
        self._threads[1].join(20)
        self._client.kill()
        self._client.wait(5)
        self._threads[2].join(5)
        self._client.stdin.close()
        self._client.stdout.close()

    def _request(self) -> None:
        while not self._over.is_set():
            try:
                answer = requests.get(self._url + "/pid", timeout=10)
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text}")
            except requests.RequestException as error:
                self.failed.append(repr(error))
            self.answered.append(time.monotonic())
            time.sleep(0.02)

    def _ask(self) -> None:
        assert self._client.stdin is not None
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                self._client.stdin.write('["/mine","emit","pid"]\n')
                self._client.stdin.flush()
            time.sleep(0.05)

    def _listen(self) -> None:
        assert self._client.stdout is not None
        for line in self._client.stdout:
            if json.loads(line)[1] == "ack":
                self.acked.append(time.monotonic())


def silence(times: list[float]) -> float:
    return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))


@pytest.mark.parametrize("options", [WORKER, OURS], ids=["worker", "ours"])
def test_the_old_serve_until_the_new_do(shop: Shop, shared_redis: PrivateRedis, options: tuple[str, ...]) -> None:
    server = shop.serve(shared_redis, *options)
    with stopping(server):
        old = two_workers(server)
        shop.write("two", seconds=4)
        with Traffic(server) as traffic:
            hup(server)
            began = time.monotonic()
            replaced(server, old)
            assert time.monotonic() - began > 4
            seen = len(traffic.acked)
            until(lambda: len(traffic.acked) > seen + 5, 20, "the client is back")
        assert traffic.failed == []
        assert silence(traffic.answered) < 1 and silence(traffic.acked) < 1
        assert version(server) == "two"
        assert "was sent SIG" not in server.text() and "Traceback" not in server.text()


BROKEN = {
    "syntax": ("def (:", "SyntaxError"),
    "name": ("undefined_name", "NameError: name 'undefined_name' is not defined"),
    "module": ("import absent_module", "No module named 'absent_module'"),
    "exit": ("raise SystemExit('No database is configured.')", "No database is configured."),
    "setting": ("import os; os.environ['SOCKET_PING_INTERVAL'] = 'often'", "SOCKET_PING_INTERVAL"),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was sent SIGKILL"),
    "redis": ("import os; os.environ['REDIS_URL'] = 'redis://127.0.0.1:1/0'", "hears nothing from Redis"),
}


@pytest.mark.parametrize(
    ("options", "kinds"),
    [(OURS, ("name", "exit")), (WORKER, ("syntax", "module", "setting", "killed", "redis"))],
    ids=["ours", "worker"],
)
def test_what_does_not_load_changes_nothing(
    shop: Shop, shared_redis: PrivateRedis, options: tuple[str, ...], kinds: tuple[str, ...]
) -> None:
    """One after the other with one server: each leaves it as it was."""
    server = shop.serve(shared_redis, *options)
    with stopping(server):
        old = two_workers(server)
        for count, kind in enumerate(kinds, 1):
            text, said = BROKEN[kind]
            shop.write("broken", text=text)
            with Traffic(server) as traffic:
                hup(server)
                until(lambda count=count: server.text().count(GIVEN_UP) == count, 40, kind)
                until(lambda: workers(server) == old, 20, f"the old ones alone: {kind}")
                assert said in server.text()
                assert version(server) == "one"
                if kind == kinds[-1]:
                    shop.write("two")
                    hup(server)
                    replaced(server, old)
            assert traffic.failed == [] and silence(traffic.acked) < 1.5, kind
        assert version(server) == "two" and server.text().count(GIVEN_UP) == len(kinds)


BROKEN_CONFIGURATIONS = [
    ("raise RuntimeError('no such region')", "RuntimeError: no such region"),
    ("raise SystemExit('mintflow: PORT is no port')", "mintflow: PORT is no port"),
    ("workers = 'many'", "Invalid value for workers: many"),
    ("def (:", "SyntaxError"),
    ("chdir = '/nowhere/at/all'", "/nowhere/at/all"),
    ("preload_app = True", "preload_app must stay off"),
    ("certfile, keyfile = 'a', 'b'", "TLS ends at nginx"),
    ("import os\ndef on_reload(server): raise KeyError('hook')", "KeyError: 'hook'"),
    ("bind = '127.0.0.1:{taken}'", "already in use"),
    ("worker_class = 'nowhere.Worker'", "nowhere"),
    ("pidfile = '/nowhere/at/all/pid'", "The reload failed"),
]


def test_a_configuration_that_does_not_load_changes_nothing(shop: Shop, shared_redis: PrivateRedis) -> None:
    """One after the other with one server: each leaves it as it was."""
    config, number = shop.folder / "conf.py", free_port()
    good = (
        "worker_class = 'mintflow_realtime.transport.worker.Worker'\nworkers = 2\ncontrol_socket_disable = True\n"
        f"bind = '127.0.0.1:{number}'\n"
    )
    config.write_text(good)
    command = ("-m", "gunicorn", "-c", str(config), "shop:application")
    server = Served(*command, cwd=shop.folder, JWT_SECRET=SECRET, REDIS_URL=shared_redis.url, DRAIN_SECONDS="1")
    with stopping(server), socket.create_server(("127.0.0.1", 0)) as taken:
        server.url = f"http://127.0.0.1:{number}"
        server.ready("/readyz")
        old = two_workers(server)
        for broken, said in BROKEN_CONFIGURATIONS:
            before = len(server.text())
            config.write_text(good + broken.replace("{taken}", str(taken.getsockname()[1])))
            hup(server)
            until(lambda before=before, said=said: said in server.text()[before:], 20, broken)
            until(lambda old=old: workers(server) == old, 20, broken)
            assert version(server) == "one"
            # One that is missing meanwhile is started by what was in force.
            gone = min(old)
            os.kill(gone, signal.SIGKILL)
            until(lambda gone=gone: len(workers(server) - {gone}) == 2, 20, broken)
            # Before it has read the code that is changed next.
            old = two_workers(server)
            assert gone not in old
            assert version(server) == "one"
        config.write_text(good + "raw_env = ['MARK=1']")
        shop.write("two")
        hup(server)
        replaced(server, old)
        assert version(server) == "two"


def test_everything_of_a_reload_is_taken_back(shop: Shop, shared_redis: PrivateRedis) -> None:
    config, pidfile = shop.folder / "conf.py", shop.folder / "pid"
    first, second = free_port(), free_port()

    def configure(port: int, count: int, name: str) -> None:
        config.write_text(
            "worker_class = 'mintflow_realtime.transport.worker.Worker'\ncontrol_socket_disable = True\n"
            f"workers = {count}\nbind = '127.0.0.1:{port}'\npidfile = '{pidfile}{name}'\n"
        )

    configure(first, 2, "")
    command = ("-m", "gunicorn", "-c", str(config), "shop:application")
    server = Served(*command, cwd=shop.folder, JWT_SECRET=SECRET, REDIS_URL=shared_redis.url, DRAIN_SECONDS="0")
    with stopping(server):
        server.url = f"http://127.0.0.1:{first}"
        server.ready("/readyz")
        old = two_workers(server)
        configure(second, 4, ".new")
        shop.write("broken", text="undefined_name")
        hup(server)
        until(lambda: GIVEN_UP in server.text(), 30)
        until(lambda: workers(server) == old, 20)
        assert pidfile.read_text().strip() == str(server.process.pid) and not Path(f"{pidfile}.new").exists()
        shop.write("two")
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        replaced(server, old)
        until(lambda: version(server) == "two", 20)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{second}/version", timeout=5)
        configure(second, 3, ".new")
        hup(server)
        server.url = f"http://127.0.0.1:{second}"
        server.ready("/version")
        until(lambda: len(workers(server)) == 3, 20)
        # Nobody has the old address any more: not even as a descriptor that a new worker was born with.
        until(lambda: not _listens(first), 20)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert not _listens(second)


def _listens(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def test_a_broken_replacement_leaves_the_others_alone(shop: Shop, shared_redis: PrivateRedis) -> None:
    server = shop.serve(shared_redis, *WORKER)
    with stopping(server):
        first, second = sorted(two_workers(server))
        shop.write("broken", text="undefined_name")
        os.kill(first, signal.SIGKILL)
        until(lambda: "Next try in 2 s" in server.text(), 30)
        assert version(server) == "one"
        shop.write("two")
        until(lambda: len(workers(server) - {first}) == 2, 30)
        assert second in workers(server)
        hup(server)
        replaced(server, {first, second})


def test_one_worker_is_recycled_when_its_successor_serves(shop: Shop, shared_redis: PrivateRedis) -> None:
    options = ("--max-requests", "40", *WORKER[:-1], "1")
    server = shop.serve(shared_redis, *options)
    with stopping(server):
        (old,) = workers(server)
        shop.write("two", seconds=2)
        with Traffic(server) as traffic:
            until(lambda: old not in workers(server), 30, "the old one has gone")
            seen = len(traffic.acked)
            until(lambda: len(traffic.acked) > seen + 5, 20, "the client is back")
        assert traffic.failed == []
        assert silence(traffic.answered) < 1 and silence(traffic.acked) < 1
        assert "Recycling after 40 requests and connections" in server.text()


def test_a_stop_during_a_reload_is_a_stop(shop: Shop, shared_redis: PrivateRedis) -> None:
    server = shop.serve(shared_redis, *WORKER)
    with stopping(server):
        two_workers(server)
        shop.write("two", seconds=6)
        hup(server)
        until(lambda: len(workers(server)) == 4, 10)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - began < 10


def test_a_worker_that_is_told_to_stop_right_after_its_fork_stops(shop: Shop, shared_redis: PrivateRedis) -> None:
    (shop.folder / "told.py").write_text(
        "import os, pathlib, signal\n"
        "def post_fork(server, worker):\n"
        "    told = pathlib.Path('told.pid')\n"
        "    if not told.exists():\n"
        "        told.write_text(str(os.getpid()))\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    server = shop.serve(shared_redis, *WORKER, "-c", "told.py")
    with stopping(server):
        told = int((shop.folder / "told.pid").read_text())
        assert told not in two_workers(server) and told not in workers(server)


def test_a_second_hup_overtakes_the_first(shop: Shop, shared_redis: PrivateRedis) -> None:
    server = shop.serve(shared_redis, *WORKER)
    with stopping(server):
        old = two_workers(server)
        shop.write("two", seconds=5)
        hup(server)
        until(lambda: len(workers(server)) == 4, 10)
        shop.write("three")
        hup(server)
        until(lambda: version(server) == "three", 20)
        replaced(server, old)
        assert {version(server) for _ in range(10)} == {"three"}


def test_fewer_workers_need_nobody_to_succeed_them(shop: Shop, shared_redis: PrivateRedis) -> None:
    server = shop.serve(shared_redis, *WORKER)
    with stopping(server):
        oldest = min(two_workers(server))
        server.process.send_signal(signal.SIGTTOU)
        until(lambda: workers(server) and len(workers(server)) == 1, 10)
        assert oldest not in workers(server) and version(server) == "one"
