"""docs/flask.md as its reader uses it: every example is a file, and each does what the page says of it."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import Served
from tests.redis_fixture import PrivateRedis
from tests.servers import PYTHON_PATH, ROOT, stopping
from tests.watcher import Watcher

PAGE = (ROOT / "docs" / "flask.md").read_text()
EXAMPLES = {block.split("\n", 1)[0][2:]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}
GUNICORN = ("-m", "gunicorn", "-c", "python:mintflow_realtime.app.gunicorn", "-b", "127.0.0.1:{port}")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """An empty folder with the page's files in it."""
    path = Path(tempfile.mkdtemp(prefix="mf-"))
    for name, text in EXAMPLES.items():
        (path / name).write_text(text)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def serve(folder: Path, target: str, redis: PrivateRedis, **env: str) -> Served:
    prefix = re.sub(r"\W", "", target)
    return Served(*GUNICORN, target, cwd=folder, REDIS_URL=redis.url, REDIS_PREFIX=prefix, DATA_DIR="{data}", **env)


def run(folder: Path, program: str, redis: PrivateRedis, **env: str) -> str:
    """Run a program beside the files, as a test or a shell of the reader's would; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{PYTHON_PATH}", "REDIS_URL": redis.url, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_example_is_a_file_and_every_file_is_tested() -> None:
    here = Path(__file__).read_text()
    assert len(EXAMPLES) > 5
    for name in EXAMPLES:
        assert re.fullmatch(r"[a-z]+\.py", name) and re.search(
            rf'["\' ]{name[:-3]}\b', here.partition("def serve")[2]
        ), name


def test_five_lines(folder: Path, shared_redis: PrivateRedis) -> None:
    with stopping(server := serve(folder, "shop:application", shared_redis, SOCKET_ANONYMOUS_TENANTS="acme")):
        with stopping(watcher := Watcher(server.ready("/readyz").url, "/flows", "/logs")):
            assert watcher.call("/flows", "subscribe_flow", {"runId": "o-1"})["ok"]
            assert requests.post(f"{server.url}/orders/o-1", timeout=10).json() == {"order": "o-1"}
            assert watcher.wait("flow_started")[0]["by"] == "web"
            assert watcher.wait("new_log")[0]["log"]["message"] == "received"


def test_a_factory(folder: Path, shared_redis: PrivateRedis) -> None:
    with stopping(server := serve(folder, "factory:create_app()", shared_redis)):
        assert requests.post(f"{server.ready('/readyz').url}/orders/o-1", timeout=10).json() == {"order": "o-1"}


def test_settings_of_the_application(folder: Path, shared_redis: PrivateRedis) -> None:
    program = "from settings import app; s = app.extensions['mintflow'].settings; "
    program += "print(s.auth_required, s.cors_origin, s.redis_url)"
    printed = run(folder, program, shared_redis)
    assert printed == "True ('https://app.example.com',) redis://127.0.0.1:6379/0", "app.config goes before REDIS_URL"


def test_users_who_have_logged_in(folder: Path, shared_redis: PrivateRedis) -> None:
    with stopping(server := serve(folder, "tickets:app", shared_redis, SOCKET_AUTH_REQUIRED="")):
        with requests.Session() as browser:
            browser.post(f"{server.ready('/readyz').url}/login/ann", timeout=10)
            ticket = browser.post(f"{server.url}/socket-ticket", timeout=10).text
        with stopping(watcher := Watcher(server.url, "/flows", auth={"token": ticket})):
            assert watcher.call("/flows", "subscribe_flow", {"runId": "o-1"})["ok"]


def test_namespaces_of_ones_own(folder: Path, shared_redis: PrivateRedis) -> None:
    with stopping(server := serve(folder, "cart:application", shared_redis)):
        answer = requests.post(f"{server.ready('/readyz').url}/login/ann", timeout=10)
        cookie = {"Cookie": f"session={answer.cookies['session']}"}
        with stopping(watcher := Watcher(server.url, "/cart", "/cheers", headers=cookie)):
            added: dict[str, Any] = watcher.call("/cart", "add", {"item": "milk"})
            assert added == {"ok": True, "data": {"item": "milk", "user": "ann", "shop": "cart"}}
            assert watcher.call("/cheers", "cheer") == "hooray for ann"


def test_a_login_guard(folder: Path, shared_redis: PrivateRedis) -> None:
    program = "from guard import app; c = app.test_client(); "
    program += (
        "print([c.get(p).status_code for p in ('/', '/realtime/healthz', '/realtime/api/v1/logs', '/socket.io/')])"
    )
    # Not logged in; well; who are you, in our own words; not served by a test client.
    assert run(folder, program, shared_redis) == "[401, 200, 401, 503]"
    program = "from guard import app; print(app.test_client().get('/realtime/api/v1/logs').json['error']['code'])"
    assert run(folder, program, shared_redis) == "authentication_required"


def test_middleware(folder: Path, shared_redis: PrivateRedis) -> None:
    program = """
from proxied import app, application
from werkzeug.test import Client
app.add_url_rule("/me", "me", lambda: __import__("flask").request.remote_addr)
for served in (app, application):
    print(Client(served).get("/me", headers={"X-Forwarded-For": "1.2.3.4, 5.6.7.8"}).text)
"""
    assert run(folder, program, shared_redis).split() == ["5.6.7.8", "5.6.7.8"]


def test_the_page_says_what_the_code_says() -> None:
    from mintflow_realtime import SocketManager

    assert all(f"`{name}`" in PAGE for name in SocketManager.blueprints)
