"""The wheel alone, as a process that publishes installs it: three packages, under Celery, RQ and many threads."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mintflow_realtime.console.vendored import FILES, is_complete
from tests.apps.environment import Environment, copy_sources, run
from tests.servers import ROOT, Node, RedisServer, stopping, until
from tests.watcher import Watcher

PUBLISHERS = ROOT / "tests" / "apps" / "publishers"
# Installing is most of it, and the machine may be busy.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A server on a Redis that Celery and RQ use too."""
    redis = RedisServer()
    node = Node(REDIS_URL=redis.url, SOCKET_RATE_LIMIT="0")
    with stopping(redis, node):
        yield node.wait_ready()


@pytest.fixture
def reader(node: Node) -> Iterator[Watcher]:
    """A client without a token, which sees the log records of the tenant `default`."""
    watcher = Watcher(node.url, "/logs")
    with stopping(watcher):
        yield watcher


@contextlib.contextmanager
def running(environment: Environment, directory: Path, *command: object, **settings: str) -> Iterator[Path]:
    """Run a program of the environment's in the publishers' folder until the end; yield the file of its output."""
    output = directory / "output"
    with open(output, "wb") as out:
        process = subprocess.Popen(
            [str(environment.bin / str(command[0])), *map(str, command[1:])],
            cwd=PUBLISHERS,
            env=environment.env(PYTHONDONTWRITEBYTECODE="1", **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield output
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, output.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def messages(reader: Watcher) -> Counter[str]:
    return Counter(event["log"]["message"] for event in reader.heard("new_log"))


def processes(reader: Watcher) -> set[int]:
    """Return the ids of the processes that named themselves in their records."""
    found = [event["log"].get("metadata") or {} for event in reader.heard("new_log")]
    return {metadata["process"] for metadata in found if metadata}


def invoices(count: int) -> Counter[str]:
    return Counter(f"invoice {number}" for number in range(count))


def test_celery_s_forked_workers_publish_through_an_emitter_made_at_import(
    workers: Environment, node: Node, reader: Watcher, tmp_path: Path
) -> None:
    redis_url = node.env["REDIS_URL"]
    options = "--app celery_tasks worker --pool prefork --concurrency 4 --loglevel INFO"
    with running(workers, tmp_path, "celery", *options.split(), REDIS_URL=redis_url) as output:
        enqueue = "from celery_tasks import read_invoice\nfor number in range(100): read_invoice.delay(number)"
        workers.run("python", "-c", enqueue, cwd=PUBLISHERS, REDIS_URL=redis_url, PYTHONDONTWRITEBYTECODE="1")
        until(lambda: len(messages(reader)) >= 102, 40, "all records are seen")
    assert messages(reader) == invoices(100) + Counter(("before the fork", "after the fork")), output.read_text()
    assert len(processes(reader)) > 1
    assert "Traceback" not in output.read_text()


def test_rq_s_jobs_publish_through_an_emitter_made_at_import(
    workers: Environment, node: Node, reader: Watcher, tmp_path: Path
) -> None:
    redis_url = node.env["REDIS_URL"]
    enqueue = """
import os, redis, rq, rq_jobs
queue = rq.Queue(connection=redis.Redis.from_url(os.environ["REDIS_URL"]))
queue.enqueue_many([rq.Queue.prepare_data(rq_jobs.read_invoice, (number,)) for number in range(30)])
"""
    settings = {"REDIS_URL": redis_url, "PYTHONDONTWRITEBYTECODE": "1"}
    workers.run("python", "-c", enqueue, cwd=PUBLISHERS, **settings)
    said = workers.run("rq", "worker", "--burst", "--url", redis_url, cwd=PUBLISHERS, **settings)
    until(lambda: len(messages(reader)) >= 30, 20, "all records are seen")
    assert messages(reader) == invoices(30), said
    assert len(processes(reader)) == 30, "each job has a process of its own"


def test_fifty_threads_publish_through_one_emitter(bare: Environment, node: Node, reader: Watcher) -> None:
    bare.run("python", PUBLISHERS / "thread_pool.py", REDIS_URL=node.env["REDIS_URL"])
    until(lambda: len(messages(reader)) >= 500, 20, "all records are seen")
    assert messages(reader) == invoices(500)


def test_three_packages_are_all_that_it_installs(bare: Environment) -> None:
    # redis-py needs one more until Python 3.11.3.
    own = {"async-timeout"} if sys.version_info < (3, 11, 3) else set()
    assert set(bare.installed()) == {"mintflow-realtime", "redis", "hiredis", "msgspec"} | own


@pytest.mark.parametrize("name", ["SocketManager", "Namespace", "handles"])
def test_what_serves_says_which_extra_it_needs(bare: Environment, name: str) -> None:
    script = f"try: from mintflow_realtime import {name}\nexcept ImportError as error: print(error)"
    said = bare.run("python", "-c", script)
    sentence = rf"mintflow_realtime\.{name} needs \w+: pip install 'mintflow-realtime\[server\]'\n"
    assert re.fullmatch(sentence, said), said


def test_a_patch_of_a_workspace_needs_no_extra(bare: Environment, node: Node) -> None:
    script = """
import os
from mintflow_realtime import Emitter
with Emitter(os.environ["REDIS_URL"]) as emit:
    emit.workspaces.update("default", "wheel-1", {"zoom": 2, "by": "Ann"})
    done = emit.workspaces.update("default", "wheel-1", patch=[{"op": "remove", "path": "/zoom"}])
    print(done.payload["version"], emit.workspaces.get("default", "wheel-1"))
"""
    said = bare.run("python", "-c", script, REDIS_URL=node.env["REDIS_URL"])
    assert said.startswith("2 ") and "'by': 'Ann'" in said and "zoom" not in said, said


def test_pytest_runs_beside_it_and_says_what_its_fixtures_need(workers: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_own(): pass\ndef test_live(mintflow_server): pass\n")
    own = workers.run("python", "-m", "pytest", "-q", "test_it.py::test_own", cwd=tmp_path)
    assert "1 passed" in own, own
    with pytest.raises(AssertionError, match=r"pip install 'mintflow-realtime\[testing\]'"):
        workers.run("python", "-m", "pytest", "-q", "-o", "mintflow_app=own:app", "test_it.py::test_live", cwd=tmp_path)


def test_an_unknown_extra_is_named_by_pip(bare: Environment, wheel: Path) -> None:
    said = bare.install("--dry-run", f"{wheel}[srever]")
    assert "does not provide the extra 'srever'" in said


def test_every_public_module_of_a_publisher_is_typed_and_imports_nothing_else(bare: Environment) -> None:
    script = """
import sys
import mintflow_realtime
from mintflow_realtime import Emitter, Settings, SettingError, errors
from importlib.resources import files
assert (files("mintflow_realtime") / "py.typed").is_file()
assert "site-packages" in mintflow_realtime.__file__
print(mintflow_realtime.__version__)
"""
    assert bare.run("python", "-c", script).strip() == bare.installed()["mintflow-realtime"]


def tracked() -> set[str]:
    """Return the files of the package in the checkout, links followed."""
    found = set()
    for folder, folders, names in os.walk(ROOT / "mintflow_realtime", followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {str(Path(folder, name).relative_to(ROOT)) for name in names if not name.endswith(".pyc")}
    return found


def test_wheel_and_archive_hold_the_whole_package_and_nothing_else(wheel: Path, dist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert in_wheel == tracked()
    assert {"mintflow_realtime/auth/tokens.py", "mintflow_realtime/namespaces/base.py"} <= in_wheel
    if is_complete():
        assert {f"mintflow_realtime/console/vendor/{file.name}" for file in FILES} <= in_wheel
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
        assert all(member.isfile() for member in members), "links would not work without their targets"
        in_source = {member.name.partition("/")[2] for member in members}
    assert in_wheel <= in_source
    assert {name for name in in_source if name.endswith(".py")} <= in_wheel


def test_the_archive_and_the_checkout_build_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """The wheel of the fixture was built from the archive; this one is built from the checkout's links."""
    sources = copy_sources(tmp_path / "checkout")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, sources)
    (other,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(other) as theirs:
        assert {one.filename: one.CRC for one in ours.infolist()} == {
            one.filename: one.CRC for one in theirs.infolist()
        }


def sums(archive: zipfile.ZipFile) -> dict[str, int]:
    return {member.filename: member.CRC for member in archive.infolist()}


def test_an_editable_install_follows_the_links_and_brings_no_other_module(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "checkout")
    environment = Environment(tmp_path / "venv", "--editable", sources)
    script = """
import importlib.util
import mintflow_realtime.auth.principal
import mintflow_realtime.namespaces
print(mintflow_realtime.auth.principal.__file__)
print([name for name in ("auth", "namespaces", "server") if importlib.util.find_spec(name)])
"""
    found = environment.run("python", "-c", script).splitlines()
    assert found == [str(sources / "mintflow_realtime" / "auth" / "principal.py"), "[]"]
    (sources / "auth" / "principal.py").write_text("edited = True\n")
    assert environment.run("python", "-c", "from mintflow_realtime.auth import principal; print(principal.edited)")
