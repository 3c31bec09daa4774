"""One's own gunicorn configuration: our worker alone, or our configuration from elsewhere, as any user, on any disk."""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.processes import Served
from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH, SECRET, stopping, until
from tests.watcher import Watcher

pytestmark = pytest.mark.independent

WORKER = ("-k", "mintflow_realtime.transport.worker.Worker", "--no-control-socket", "-b", "127.0.0.1:{port}")
OURS = ("-c", "python:mintflow_realtime.app.gunicorn", "-b", "127.0.0.1:{port}")
APP = """
import os
from flask import Flask
from mintflow_realtime import SocketManager
app = Flask("shop")
app.config.update({name[4:]: value for name, value in os.environ.items() if name.startswith("APP_")})
realtime = SocketManager(app)
application = realtime.wsgi_app
@app.post("/log")
def log():
    return realtime.logs.append("default", flow_id="f", message="hello").offset
"""
# What another user may read: pytest's own folders are the user's alone.
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may run workers as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    path.chmod(0o755)
    (path / "shop.py").write_text(APP)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def serve(folder: Path, *options: str, target: str = "shop:application", **env: str) -> Served:
    under = _with_a_python_for_everybody(folder) if "--user" in options else ()
    if "--user" in options:
        # Another user can't write where coverage is collected.
        env = {**{name: "" for name in os.environ if name.startswith("COVERAGE")}, **env}
    env = {"JWT_SECRET": SECRET, "SOCKET_PING_INTERVAL": "5", **env}
    return Served("-m", "gunicorn", *options, target, cwd=folder, under=under, **env)


def _with_a_python_for_everybody(folder: Path) -> tuple[str, ...]:
    """Return what runs a command where all can read Python, which may be under a home that is root's alone."""
    python = Path(sys.base_prefix).resolve()
    closed = [place for place in python.parents if not place.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ()
    home, aside = closed[-1], folder / "python"
    aside.mkdir()
    # In mounts of its own, which nobody else sees.
    script = f"mount --bind {python} {aside} && mount -t tmpfs -o mode=755 none {home} && mkdir -p {python} && "
    script += f'mount --bind {aside} {python} && exec "$@"'
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip(f"another user can't read {python} here")
    return "unshare", "-m", "sh", "-c", script, "sh"


def works(server: Served, workers: int = 1) -> None:
    """Publish from a view, and hear it by long polling and by a WebSocket; several clients meet several workers."""
    server.ready("/readyz")
    with contextlib.ExitStack() as clients:
        watchers = []
        for number in range(1 if workers == 1 else 8):
            watchers.append(Watcher(server.url, "/logs", transports=["websocket" if number % 8 == 7 else "polling"]))
            clients.enter_context(stopping(watchers[-1]))
        assert requests.post(server.url + "/log", timeout=20).status_code == 200
        for watcher in watchers:
            assert watcher.wait("new_log", seconds=20)[0]["log"]["message"] == "hello"
        assert not any(watcher.disconnected.is_set() for watcher in watchers)


@pytest.mark.parametrize("options", [WORKER, OURS])
@pytest.mark.parametrize("target", ["shop:application", "shop:app"])
def test_from_another_folder_with_the_embedded_redis(folder: Path, options: tuple[str, ...], target: str) -> None:
    server = serve(folder, *options, target=target)
    with stopping(server):
        works(server)
        assert (folder / "data" / "redis.sock").exists(), "in ./data, as nobody has named a place"
        server.terminate()
        until(lambda: not (folder / "data" / "redis.sock").exists(), 20, "Redis has stopped too")
        assert server.text().count("Booting worker") <= 2 and "Traceback" not in server.text()


@pytest.mark.parametrize("options", [(*WORKER, "-w", "4"), (*OURS, "-w", "4")])
def test_several_workers_hand_long_polling_over_whatever_the_settings_say(
    folder: Path, shared_redis: PrivateRedis, options: tuple[str, ...]
) -> None:
    env = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": f"w{len(options)}", "WEB_CONCURRENCY": "1"}
    server = serve(folder, *options, **env)
    with stopping(server):
        works(server, workers=4)


@pytest.mark.parametrize("options", [(*WORKER, "-w", "2"), (*OURS, "-w", "2")])
def test_in_a_folder_whose_path_is_too_long_for_sockets(folder: Path, options: tuple[str, ...]) -> None:
    deep = folder / ("d" * 100) / ("ü" * 40)
    deep.mkdir(parents=True)
    shutil.copy(folder / "shop.py", deep)
    server = serve(deep, *options, WEB_CONCURRENCY="2")
    with stopping(server):
        works(server, workers=2)
        environment = {"PYTHONPATH": PYTHON_PATH, "PATH": os.environ["PATH"]}
        code = "from mintflow_realtime import Emitter; Emitter().logs.append('default', message='x')"
        published = subprocess.run(
            [sys.executable, "-c", code],
            cwd=deep, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert published.returncode == 0, published.stderr
        assert (deep / "data" / "redis.sock").is_socket()
        server.terminate()
        until(lambda: not (deep / "data" / "redis.sock").exists(), 20, "Redis has stopped too")
        assert "Traceback" not in server.text()


def test_a_worker_that_ttin_adds_hands_over_too(folder: Path, shared_redis: PrivateRedis) -> None:
    server = serve(folder, *WORKER, REDIS_URL=shared_redis.url, REDIS_PREFIX="ttin")
    with stopping(server):
        server.ready("/readyz")
        for count in (2, 3, 4):
            server.process.send_signal(signal.SIGTTIN)
            until(lambda count=count: len([*(folder / "data" / "workers").glob("*.sock")]) == count, 20)
        works(server, workers=4)


def test_a_redis_that_the_application_names_is_the_only_one(folder: Path, shared_redis: PrivateRedis) -> None:
    env = {"APP_MINTFLOW_REDIS_URL": shared_redis.url, "APP_MINTFLOW_REDIS_PREFIX": "named"}
    server = serve(folder, *OURS, **env)
    with stopping(server):
        works(server)
        assert not (folder / "data" / "redis.sock").exists()


# What can't work is refused with one sentence, and never a loop


def refused(server: Served) -> list[str]:
    """Return what the server has said when it has ended by itself."""
    with stopping(server):
        assert server.ended() != 0
        text = server.text()
        assert "Traceback" not in text and text.count("Booting worker") <= 4, text
        return text.splitlines()


def _many(options: tuple[str, ...]) -> tuple[str, ...]:
    # gunicorn 27.0.1 adds a traceback of its own where a second worker fails to boot while it ends for the first.
    return ("-w", "2") if options == OURS else ("-w", "1")


def sentences(lines: list[str], part: str) -> set[str]:
    return {line[line.index(part) :] for line in lines if part in line}


@pytest.mark.parametrize(
    ("option", "sentence"), [("--preload", "preload_app must stay off"), ("--certfile=x", "TLS ends at nginx")]
)
def test_options_that_cannot_work_stop_our_worker_by_itself(folder: Path, option: str, sentence: str) -> None:
    more = ("--keyfile=x",) if "cert" in option else ()
    (folder / "x").touch()
    assert any(sentence in line for line in refused(serve(folder, *WORKER, option, *more)))


def test_middleware_around_what_is_served_is_refused_with_what_to_do(folder: Path) -> None:
    (folder / "wrapped.py").write_text("from shop import application as inner\napplication = lambda *a: inner(*a)\n")
    lines = refused(serve(folder, *WORKER, target="wrapped:application"))
    assert any("serve `realtime.wsgi_app`, and put middleware on `app.wsgi_app`" in line for line in lines)


@pytest.fixture
def read_only(folder: Path) -> Iterator[Path]:
    """A directory on a disk that nobody may write to, root neither."""
    place = folder / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a read-only disk can't be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0"])
@pytest.mark.parametrize("options", [WORKER, OURS])
def test_a_read_only_disk_is_refused_before_a_worker_starts_where_our_configuration_is(
    folder: Path, read_only: Path, options: tuple[str, ...], url: str
) -> None:
    lines = refused(serve(folder, *options, *_many(options), DATA_DIR=str(read_only / "data"), REDIS_URL=url))
    assert len(sentences(lines, f"mintflow: DATA_DIR {read_only}/data can't be used: ")) == 1
    if options == OURS:
        assert len(lines) <= 3 and not any("Booting" in line for line in lines), lines


@as_root
@pytest.mark.parametrize("options", [WORKER, OURS])
def test_workers_of_another_user_have_an_embedded_redis_of_theirs(folder: Path, options: tuple[str, ...]) -> None:
    nobody = pwd.getpwnam("nobody")
    # Where our configuration is, root makes the place for them; a worker makes it where it may.
    data = folder / "data" if options == OURS else folder / "theirs" / "data"
    data.parent.mkdir(exist_ok=True)
    if options == WORKER:
        os.chown(data.parent, nobody.pw_uid, nobody.pw_gid)
    server = serve(folder, *options, "-w", "2", "--user", "nobody", DATA_DIR=str(data))
    with stopping(server):
        works(server, workers=2)
        owners = {path.stat().st_uid for path in (data, *data.rglob("*"))}
        assert owners == {nobody.pw_uid}
        server.process.send_signal(signal.SIGHUP)
        # Clients of the old ones would be sent away in the middle.
        until(lambda: server.text().count("Worker exiting") == 2, 40, "new workers serve, and the old are gone")
        works(server, workers=2)
        server.terminate()
        until(lambda: not (data / "redis.sock").exists(), 20, "Redis has stopped too")


@as_root
@pytest.mark.parametrize("options", [WORKER, OURS])
def test_a_place_of_roots_is_refused_for_workers_of_another_user(folder: Path, options: tuple[str, ...]) -> None:
    (folder / "data").mkdir(mode=0o700)
    lines = refused(serve(folder, *options, *_many(options), "--user", "nobody", DATA_DIR=str(folder / "data")))
    assert len(sentences(lines, f"mintflow: DATA_DIR {folder}/data ")) == 1
    if options == OURS:
        assert any(f"`chown -R nobody {folder}/data`" in line for line in lines)
