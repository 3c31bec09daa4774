"""The pytest plugin, in runs of pytest of its own: what an application's project has, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_testing_package import TODO, unmeasured
from tests.servers import ROOT

pytestmark = [pytest.mark.independent, pytest.mark.timeout(400), pytest.mark.thorough]

TESTS = """
import pytest
from mintflow_realtime import errors

def test_publishes(mintflow_client, mintflow_token):
    ann = mintflow_client("/todo", token=mintflow_token("ann"), recover=True)
    bob = mintflow_client("/todo", token=mintflow_token("bob", ["acme"], scope="flows:read"))
    assert ann.call("add", {"text": "wash up"})["text"] == "wash up"
    assert bob.wait_for("added") == {"text": "wash up"}

def test_leaves_a_mess(mintflow_client, mintflow_token, mintflow_server):
    client = mintflow_client("/logs", token=mintflow_token())
    mintflow_server.emitter.logs.append("acme", message="hello")
    assert client.wait_for("new_log")["log"]["message"] == "hello"
    assert len(client.call("log_history", {})["logs"]) == 1
    mintflow_server.redis.stop()

def test_finds_nothing_of_the_mess(mintflow_client, mintflow_token, mintflow_server):
    client = mintflow_client("/logs", token=mintflow_token(), recover=True)
    assert client.call("log_history", {})["logs"] == []
    client.lose_network(0.1)
    mintflow_server.emitter.logs.append("acme", message="one")
    assert client.wait_for("new_log")["log"]["message"] == "one"
    assert client.recovered and [name for name, _ in client.events()] == ["new_log"]
    mintflow_server.redis.hang(60)

def test_is_not_kept_waiting_by_the_one_before(mintflow_client, mintflow_token):
    assert mintflow_client("/todo", token=mintflow_token()).call("add", {"text": "x"})
"""


def run(directory: Path, files: dict[str, str], *options: str, code: int = 0, measured: bool = True) -> str:
    """Run pytest in `directory` as its own project, and return what it printed."""
    for name, text in files.items():
        (directory / name).write_text(text)
    env = {**(os.environ if measured else unmeasured()), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    env.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "mintflow_realtime.testing.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *options], cwd=directory, env=env, capture_output=True, text=True, timeout=110)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def ini(*lines: str) -> dict[str, str]:
    return {"pytest.ini": "\n".join(["[pytest]", "filterwarnings = error", *lines])}


def test_fixtures_give_each_test_a_clean_server(tmp_path: Path) -> None:
    said = run(tmp_path, ini(f"mintflow_app = {TODO}") | {"test_it.py": TESTS}, "-v")
    assert "4 passed" in said


def test_the_fixtures_work_with_xdist(tmp_path: Path) -> None:
    files = ini(f"mintflow_app = {TODO}") | {"test_it.py": TESTS}
    assert "4 passed" in run(tmp_path, files, "-p", "xdist", "-n", "2")


def test_the_application_may_be_a_fixture_of_any_scope(short_path: Path) -> None:
    tests = """
import pytest

@pytest.fixture(scope="module")
def mintflow_app():
    from tests.apps import todo
    return todo.create_app

@pytest.fixture
def mintflow_options(request):
    return {"settings": {"SOCKET_PATH": request.param}, "workers": 1}

@pytest.mark.parametrize("mintflow_options", ["/a", "/b", "/c", "/d", "/a"], indirect=True)
def test_settings_of_ones_own(mintflow_server, mintflow_client, mintflow_token, mintflow_options):
    assert mintflow_client("/todo", token=mintflow_token()).call("add", {"text": "x"})
    assert mintflow_server.application == "tests.apps.todo:create_app()"
"""
    assert "5 passed" in run(short_path, ini() | {"test_it.py": tests})


def test_a_failed_test_shows_the_servers_log(tmp_path: Path) -> None:
    tests = """
import urllib.request

def test_one(mintflow_server):
    call(mintflow_server)

def test_two(mintflow_server):
    call(mintflow_server)
    assert False, "on purpose"

def call(server):
    request = urllib.request.Request(server.url + "/done", b"{}", {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()
"""
    said = run(tmp_path, ini(f"mintflow_app = {TODO}") | {"test_it.py": tests}, code=1)
    shown = said.partition("mintflow server log")[2]
    assert "done was called" in shown and "Booting worker" not in shown, said


@pytest.mark.parametrize(
    ("app", "sentence"),
    [
        ("", "mintflow_server doesn't know the application: write mintflow_app = shop:create_app() into"),
        (
            "mintflow_app = tests.apps.nowhere:app",
            "The application tests.apps.nowhere:app does not load: ModuleNotFound",
        ),
    ],
)
def test_what_is_missing_is_a_sentence_without_a_traceback_of_ours(tmp_path: Path, app: str, sentence: str) -> None:
    tests = "def test_it(mintflow_server):\n    pass\n"
    said = run(tmp_path, ini(app) | {"test_it.py": tests}, code=1)
    assert sentence in said and "server_pool" not in said and "plugin.py" not in said


def test_a_project_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    tests = """
import sys

def test_it():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"flask", "gevent", "socketio", "engineio", "redis", "msgspec", "wsproto", "jwt"}
    ours = {name for name in sys.modules if name.startswith("mintflow_realtime")}
    assert ours == {"mintflow_realtime", "mintflow_realtime.testing", "mintflow_realtime.testing.plugin"}
"""
    assert "1 passed" in run(tmp_path, ini() | {"test_it.py": tests}, measured=False)


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```(?:python|ini)\n# (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    files = {name: text for name, text in blocks}
    assert list(files) == ["shop.py", "pytest.ini", "test_orders.py", "test_faults.py", "conftest.py", "by_hand.py"]
    assert page.count("```python") + page.count("```ini") == len(files), "every example is run"
    files["pytest.ini"] += "filterwarnings = error\n"
    assert "6 passed" in run(tmp_path, files)
    (tmp_path / "conftest.py").unlink()
    assert "6 passed" in run(tmp_path, {}, "-p", "xdist", "-n", "2")
    by_hand = [sys.executable, "-W", "error", "by_hand.py"]
    env = {**unmeasured(), "PYTHONPATH": str(ROOT)}
    assert subprocess.run(by_hand, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout == "o-1\n"
