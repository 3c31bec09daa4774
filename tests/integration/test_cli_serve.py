"""`mintflow serve`: the package's server, applications as gunicorn and Flask write them, and `--reload`."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.command import Running, run, with_entry_points
from tests.redis_fixture import PrivateRedis
from tests.servers import free_port, stopping, until

SHOP = """
from flask import Flask
from mintflow_realtime import SocketManager


def create_app(name="shop"):
    app = Flask(__name__)
    app.realtime = SocketManager(app)
    app.add_url_rule("/name", view_func=lambda: name)
    return app
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a Flask app in it, to which `serve` is called."""
    path = Path(tempfile.mkdtemp(prefix="mf-shop-"))
    (path / "factory.py").write_text(SHOP)
    (path / "shop.py").write_text(
        "from factory import create_app\napp = create_app()\napplication = app.realtime.wsgi_app\n"
    )
    (path / "bare.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Served(Running):
    """`mintflow serve` on a free port."""

    def __init__(self, folder: Path, redis: PrivateRedis, *args: str, flask: tuple[str, ...] = (), **env: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        line = ("serve", *args, "--port", str(self.port), "--workers", "1")
        line = (*flask, "mintflow", *line) if flask else line
        module = "flask" if flask else "mintflow_realtime.cli"
        if flask:
            env["PYTHONPATH"] = with_entry_points(folder)
        super().__init__(*line, cwd=folder, module=module, REDIS_URL=redis.url, REDIS_PREFIX="served", **env)

    def get(self, path: str) -> str:
        """Return the body of an answer, "" where there is none."""
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + path, timeout=5).text
        return ""

    def wait_ready(self) -> "Served":
        def ready() -> bool:
            assert self.process.poll() is None, self.errors + self.text
            return "ready" in self.get("/readyz")

        until(ready, 40, "the server is ready")
        return self


def test_the_packages_own_server(folder: Path, shared_redis: PrivateRedis) -> None:
    server = Served(folder, shared_redis)
    with stopping(server):
        server.wait_ready()
        assert server.get("/socket.io/?EIO=4&transport=polling").startswith("0{")
        # It is gunicorn itself, whose signals a supervisor sends to this process.
        assert b"gunicorn" in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        assert server.stop(15) == 0


@pytest.mark.parametrize(
    ("app", "name"),
    [("shop:application", "shop"), ("shop:app", "shop"), ("shop", "shop"), ("factory:create_app('other')", "other")],
)
def test_applications(folder: Path, shared_redis: PrivateRedis, app: str, name: str) -> None:
    server = Served(folder, shared_redis, app)
    with stopping(server):
        server.wait_ready()
        assert server.get("/name") == name
        assert server.get("/socket.io/?EIO=4&transport=polling").startswith("0{")


@pytest.mark.parametrize("flask", [("--app", "factory"), ("--app", "factory:create_app('other')"), ("--app", "shop")])
def test_under_flask(folder: Path, shared_redis: PrivateRedis, flask: tuple[str, ...]) -> None:
    server = Served(folder, shared_redis, flask=flask)
    with stopping(server):
        server.wait_ready()
        assert server.get("/name") == ("other" if "other" in flask[1] else "shop")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("nothere:app", "there is no module 'nothere' in"),
        ("shop:nothere", "Failed to find attribute 'nothere' in 'shop'."),
        ("bare:app", "bare:app is a Flask app without realtime: add SocketManager(app) to it."),
        ("os:getcwd", "os:getcwd is no application of ours"),
        ("shop:app.x", "Failed to parse 'app.x'"),
    ],
)
def test_what_is_no_application(folder: Path, shared_redis: PrivateRedis, app: str, said: str) -> None:
    server = Served(folder, shared_redis, app)
    with stopping(server):
        assert server.process.wait(30) != 0
        assert said in server.errors
        assert "Traceback" not in server.errors


def test_options(folder: Path, shared_redis: PrivateRedis) -> None:
    port = free_port()
    args = ("serve", "--bind", f"127.0.0.1:{port}", "--", "--access-logfile", "/dev/null", "--name", "seen-in-ps")
    server = Running(*args, cwd=folder, REDIS_URL=shared_redis.url, REDIS_PREFIX="served", WEB_CONCURRENCY="1")
    with stopping(server):
        until(lambda: _answers(port), 40, "it answers where it was bound")
        assert b"seen-in-ps" in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    done = run("serve", "--bind", "127.0.0.1:1", "--port", "1")
    assert done.returncode == 2 and "not both" in done.stderr
    done = run("serve", PORT="many")
    assert done.returncode == 1 and done.stderr.startswith("Error: PORT must be a whole number")


def _answers(port: int) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=3).ok
    return False


def test_reload_survives_what_does_not_load(folder: Path, shared_redis: PrivateRedis) -> None:
    factory = folder / "factory.py"
    server = Served(folder, shared_redis, "factory:create_app()", "--reload", PYTHONDONTWRITEBYTECODE="1")

    def changed(text: str, expected: str) -> None:
        # The watcher compares times of files, which may be as coarse as a second.
        later = os.stat(factory).st_mtime + 2
        factory.write_text(text)
        os.utime(factory, (later, later))
        until(lambda: re.search(expected, server.get("/name")), 40, f"{expected} is served: {server.get('/name')}")
        assert server.process.poll() is None

    with stopping(server):
        server.wait_ready()
        assert server.get("/name") == "shop"
        changed(SHOP.replace('"shop"', '"two"'), r"\Atwo\Z")
        changed(SHOP.replace('"shop"', '"two'), r"SyntaxError: unterminated string literal")
        assert requests.get(server.url + "/socket.io/?EIO=4&transport=polling", timeout=5).status_code == 500
        assert "gunicorn" not in server.get("/name"), "the traceback begins with the application"
        changed(SHOP.replace('"shop"', '"three"'), r"\Athree\Z")
        changed("import nothere\n" + SHOP, r"No module named 'nothere'")
        changed(SHOP.replace("return app", "return 1 / 0"), r"ZeroDivisionError")
        changed(SHOP, r"\Ashop\Z")
        assert server.get("/socket.io/?EIO=4&transport=polling").startswith("0{")


def test_reload_sees_that_a_missing_module_has_come(folder: Path, shared_redis: PrivateRedis) -> None:
    server = Served(folder, shared_redis, "late:app", "--reload")
    with stopping(server):
        until(lambda: "there is no module 'late'" in server.get("/name"), 40, "the fault is served")
        shutil.copy(folder / "shop.py", folder / "late.py")
        until(lambda: server.get("/name") == "shop", 40, "the application is served")
        assert server.process.poll() is None


def test_a_failed_load_ends_the_server_without_reload(folder: Path, shared_redis: PrivateRedis) -> None:
    (folder / "factory.py").write_text("1 / 0")
    server = Served(folder, shared_redis, "factory:create_app()")
    with stopping(server):
        assert server.process.wait(30) != 0
        assert "ZeroDivisionError" in server.errors
