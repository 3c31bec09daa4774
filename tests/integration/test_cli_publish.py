"""`mintflow publish`: what a shell publishes is what the services would, and what is wrong is one sentence."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.logs import FilterLogs
from mintflow_realtime.settings.publisher import PublisherSettings
from tests.command import environment, run
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, free_port, until


@pytest.fixture
def settings(shared_redis: PrivateRedis) -> dict[str, str]:
    return {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "published"}


@pytest.fixture
def emitter(settings: dict[str, str]) -> Iterator[Emitter]:
    with Emitter(settings=PublisherSettings.from_env(settings)) as made:
        yield made


def _logs(emitter: Emitter, tenant: str) -> list[dict[str, object]]:
    page = emitter.logs.read(Principal.system(tenant), FilterLogs(limit=1000))
    return [json.loads(bytes(text)) for text in page.logs]


def test_a_record(settings: dict[str, str], emitter: Emitter) -> None:
    args = ("--flow", "f", "--run", "r", "--node", "n", "--level", "WARN", "--metadata", '{"n": 1}')
    done = run("publish", "log", "hello", "-t", "one", *args, **settings)
    assert done.returncode == 0 and done.stdout.strip().endswith("-1"), done.stderr
    (record,) = _logs(emitter, "one")
    fields = ("message", "flowId", "runId", "nodeId", "logLevel", "metadata")
    assert [record[name] for name in fields] == ["hello", "f", "r", "n", "warn", {"n": 1}]
    done = run("publish", "log", "hello", "--tenant", "default", **settings)
    assert [one["message"] for one in _logs(emitter, "default")] == ["hello"]


def test_an_idempotency_key(settings: dict[str, str], emitter: Emitter) -> None:
    for _ in range(2):
        done = run("publish", "log", "once", "-t", "key", "--idempotency-key", "k", **settings)
        assert done.returncode == 0
    assert "published before" in done.stdout
    assert len(_logs(emitter, "key")) == 1


def test_lines_of_a_pipe(settings: dict[str, str], emitter: Emitter) -> None:
    lines = [f"line {number}" for number in range(2500)]
    long = "x" * 200_000
    text = "\n".join([*lines, "", "  ", "caf\udce9", long]) + "\nlast, without an end"
    done = subprocess.run(
        [sys.executable, "-m", "mintflow_realtime.cli", "publish", "log", "-", "-t", "pipe", "--run", "r", "--tee"],
        input=text.encode("utf-8", "surrogateescape"),
        capture_output=True,
        cwd=ROOT,
        env=environment(**settings, LOGS_MAX="100000"),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b"records published." in done.stderr
    assert done.stdout.decode().startswith("line 0\nline 1\n")
    principal = Principal.system("pipe")
    found: list[dict[str, object]] = []
    before: str | None = None
    while True:
        page = emitter.logs.read(principal, FilterLogs(limit=1000, before=before))
        found[:0] = [json.loads(bytes(record)) for record in page.logs]
        if not page.next_cursor:
            break
        before = page.next_cursor
    messages = [str(record["message"]) for record in found]
    assert messages[:2501] == [*lines, "caf�"]
    assert messages[-1] == "last, without an end"
    assert found[2501]["metadata"] == {"truncated": True} and 1000 < len(messages[2501]) < 65_536


def test_a_pipe_waits_for_redis(private_redis: PrivateRedis) -> None:
    env = environment(REDIS_URL=private_redis.url)
    process = subprocess.Popen(
        [sys.executable, "-m", "mintflow_realtime.cli", "publish", "log", "-"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=env,
    )
    assert process.stdin and process.stderr
    try:
        private_redis.pause()
        process.stdin.write(b"first\n")
        process.stdin.flush()
        assert b"Waiting." in process.stderr.readline()
        private_redis.resume()
        with Emitter(private_redis.url) as emitter:
            until(lambda: _logs(emitter, "default"), 30)
            process.stdin.close()
            assert process.wait(30) == 0
            assert [record["message"] for record in _logs(emitter, "default")] == ["first"]
    finally:
        process.stderr.close()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


def test_events_of_a_run(settings: dict[str, str], emitter: Emitter) -> None:
    run_args = ("-t", "runs", "--flow", "f", "--run", "r")
    for args in (
        ("flow_started", "--data", '{"by": "cron"}'),
        ("node_started", "--node", "parse"),
        ("flow_progress", "--progress", "40"),
        ("node_failed", "--node", "parse", "--error", "disk full"),
    ):
        done = run("publish", "event", *args, *run_args, **settings)
        assert done.returncode == 0, done.stderr
    snapshot = emitter.flows.read(Principal.system("runs"), "f", "r").run
    assert (snapshot.status, snapshot.progress, snapshot.nodes["parse"].status) == ("started", 40, "failed")


def test_an_event_of_ones_own(settings: dict[str, str], emitter: Emitter) -> None:
    done = run("publish", "custom", "/board", "moved", '{"card": [7]}', "-t", "own", **settings)
    assert done.returncode == 0, done.stderr
    (event,) = emitter.publisher.page("own", "/board", 1).events
    assert json.loads(event.arguments) == ["moved", {"card": [7]}]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("log",), 2, "Missing argument"),
        (("log", "x", "--level", "loud"), 2, "'loud' is not one of"),
        (("log", "x", "--metadata", "[1]"), 2, "is no JSON object"),
        (("log", "x", "--metadata", "{"), 2, "is no JSON:"),
        (("log", "x", "-t", "a b"), 1, "$.tenant"),
        (("event", "flow_begun", "--flow", "f", "--run", "r"), 2, "is not one of"),
        (("event", "flow_failed", "--flow", "f", "--run", "r"), 2, "flow_failed needs --error"),
        (("event", "flow_started", "--flow", "f", "--run", "r", "--node", "n"), 2, "takes no --node"),
        (("event", "flow_started", "--flow", "f"), 2, "--run"),
        (("custom", "/logs", "x"), 1, "a namespace of the application's own"),
        (("custom", "/x", "y", "{"), 2, "is no JSON:"),
    ],
)
def test_bad_input(settings: dict[str, str], args: tuple[str, ...], code: int, said: str) -> None:
    done = run("publish", *args, **settings)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_nobody_there() -> None:
    done = run("publish", "log", "x", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1
