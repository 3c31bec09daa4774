"""The wheel with `[server]`, as an application installs it: the shop, and docs/quickstart.md word by word."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mintflow_realtime.testing import RealtimeClient
from tests.apps.environment import Environment
from tests.servers import ROOT, SECRET, free_port, stopping, until

# What the shop calls its own, and so do we.
SAME_NAMES = ("auth", "namespaces", "protocol", "routes", "services")
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
# Installing is most of it, and the machine may be busy.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def node_program() -> str:
    found = shutil.which("node")
    if found is None or not (ROOT / "node_modules" / "socket.io-client").is_dir():
        assert not os.environ.get("CI"), "node or socket.io-client is missing: run `make setup`"
        pytest.skip("node or socket.io-client is missing: run `make setup`")
    return found


@contextlib.contextmanager
def running(*command: object, cwd: Path, output: Path, env: dict[str, str]) -> Iterator[Path]:
    """Run a program until the end; yield the file of what it prints."""
    with open(output, "wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield output
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(25)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def answers(url: str) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=3).status_code == 200
    return False


@contextlib.contextmanager
def serving(environment: Environment, application: str, cwd: Path, **settings: str) -> Iterator[str]:
    """Serve an application of the folder by gunicorn as the pages say; yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = environment.env(PORT=str(port), WEB_CONCURRENCY="2", **settings)
    command = (environment.bin / "gunicorn", "-c", "python:mintflow_realtime.app.gunicorn", application)
    with running(*command, cwd=cwd, output=cwd / "gunicorn.out", env=env) as output:
        try:
            until(lambda: answers(f"{url}/readyz"), 30, "the server is ready")
            yield url
        except BaseException:
            print(output.read_text(errors="replace"))
            raise


def program(name: str) -> str:
    """Return the program that the page shows after a line that begins with its file's name."""
    before, _, after = PAGE.partition(f"\n`{name}`")
    assert after and f"\n`{name}`" not in after, name
    return after.split("\n```", 2)[1].partition("\n")[2] + "\n"


def test_the_page_s_programs_see_what_is_published(server: Environment, node_program: str, folder: Path) -> None:
    for name in ("app.py", "watch.mjs", "publish.py"):
        (folder / name).write_text(program(name))
    assert "gunicorn -c python:mintflow_realtime.app.gunicorn app:application" in PAGE
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    with serving(server, "app:application", folder) as url:
        script = (folder / "watch.mjs").read_text()
        assert "http://127.0.0.1:3000" in script
        (folder / "watch.mjs").write_text(script.replace("http://127.0.0.1:3000", url))
        command = (node_program, "watch.mjs")
        with running(*command, cwd=folder, output=folder / "watch.out", env=server.env()) as watched:
            until(lambda: "watching\n" in watched.read_text(), 20, "the client is connected")
            assert requests.get(f"{url}/hello/ann", timeout=10).text == "said\n"
            assert server.run("python", "publish.py", cwd=folder) == ""
            until(lambda: watched.read_text().count("\n") >= 3, 20, "both records are seen")
            assert watched.read_text().splitlines() == ["watching", "info hello ann", "warn 42 invoices read"]
    for line in ("info hello ann", "warn 42 invoices read"):
        assert f"`{line}`" in PAGE


class Visitor(requests.Session):
    """A browser in the shop at `url`, logged in as `name`."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        self.url = url
        page = self.get(f"{url}/login", timeout=20).text
        self.headers["X-CSRFToken"] = page.partition('name="csrf-token" content="')[2].partition('"')[0]
        answer = self.send_form("/login", name=name, password=f"{name}'s password")
        assert f"Hello {name}" in answer.text, answer.text
        # Another session, another token.
        page = self.get(f"{url}/login", timeout=20).text
        self.headers["X-CSRFToken"] = page.partition('name="csrf-token" content="')[2].partition('"')[0]

    def send_form(self, path: str, **fields: object) -> requests.Response:
        return self.post(self.url + path, data=fields, timeout=20)

    def ticket(self) -> str:
        return str(self.send_form("/ticket").json()["ticket"])

    stop = requests.Session.close


def test_the_shop_is_live(shop_environment: Environment, node_program: str, shop: Path) -> None:
    fill = "from shop import app; print(app.test_cli_runner().invoke(args=['fill']).output)"
    assert shop_environment.run("python", "-c", fill, cwd=shop, JWT_SECRET=SECRET) == "\n"
    with serving(shop_environment, "shop:application", shop, JWT_SECRET=SECRET) as url:
        ann, sam = Visitor(url, "ann"), Visitor(url, "sam")
        python = RealtimeClient(url, "/orders", token=sam.ticket())
        script = (node_program, ROOT / "tests" / "js" / "shop.mjs", url, sam.ticket())
        with (
            stopping(ann, sam),
            python,
            running(*script, cwd=ROOT, output=shop / "page.out", env=shop_environment.env()) as page,
        ):
            until(lambda: page.read_text() == "connected\n", 20, "the page is connected")
            answer = ann.send_form("/orders", product_id=1, quantity=2)
            assert answer.status_code == 201, answer.text
            assert answer.json()["customer"] == "ann"
            assert python.wait_for("order_placed", timeout=20) == answer.json()
            until(lambda: page.read_text().count("\n") > 1, 20, "the page has the order")
            assert json.loads(page.read_text().splitlines()[1]) == answer.json()
            assert python.events("order_placed") == [answer.json()]
            api = {"X-API-Key": "none"}
            assert requests.post(f"{url}/api/v1/logs", json={}, headers=api, timeout=20).status_code == 401, "no CSRF"


def test_the_shop_s_modules_are_its_own(shop_environment: Environment, shop: Path) -> None:
    script = f"""
import sys
from importlib import import_module
import shop
for name in {SAME_NAMES}:
    own, ours = import_module(name), import_module(f"mintflow_realtime.{{name}}")
    assert own is not ours and own.__file__.startswith({str(shop)!r}), own
    assert "site-packages" in ours.__file__, ours
assert sys.modules["config"].Config.MINTFLOW_SOCKET_AUTH_REQUIRED
"""
    shop_environment.run("python", "-c", script, cwd=shop, JWT_SECRET=SECRET)


def test_the_shop_s_own_tests_pass(shop_environment: Environment, shop: Path) -> None:
    said = shop_environment.run("python", "-m", "pytest", "-q", cwd=shop, seconds=200)
    assert "12 passed" in said, said
