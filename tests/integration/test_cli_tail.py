"""`mintflow tail`: each record once, in order, over restarts of the server and of Redis, from either source."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.settings.publisher import PublisherSettings
from tests.command import Running, environment, run
from tests.servers import ROOT, Node, RedisServer, free_port, stopping, token, until

PREFIX = "tailed"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that keeps what it has over a restart."""
    server = RedisServer()
    server.stop()
    server.options["appendfsync"] = "always"
    server.start()
    with stopping(server):
        yield server


@pytest.fixture
def settings(redis: RedisServer) -> dict[str, str]:
    """The environment of commands."""
    return {"REDIS_URL": redis.url, "REDIS_PREFIX": PREFIX}


@pytest.fixture
def emitter(settings: dict[str, str]) -> Iterator[Emitter]:
    with Emitter(settings=PublisherSettings.from_env(settings)) as made:
        yield made


class Writer:
    """Appends numbered records until stopped, each until it is known to have happened."""

    def __init__(self, emitter: Emitter, tenant: str) -> None:
        self.count = 0
        self._emitter, self._tenant = emitter, tenant
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self._stopping.is_set():
            number = self.count + 1
            while True:
                try:
                    self._emitter.logs.append(
                        self._tenant, message=f"record {number}", idempotency_key=f"{self._tenant}-{number}"
                    )
                    break
                except Unavailable:
                    time.sleep(0.05)
            self.count = number
            time.sleep(0.005)

    def past(self, more: int) -> None:
        """Wait until `more` further records are written."""
        wanted = self.count + more
        until(lambda: self.count >= wanted, 40, f"{wanted} records")

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(30)


def _wait_until_it_reads(tail: Running, emitter: Emitter, tenant: str) -> None:
    def seen() -> bool:
        emitter.logs.append(tenant, message="reads")
        return bool(tail.lines)

    until(seen, 30, "tail shows what is new")


def _numbered(tail: Running) -> list[str]:
    messages = [json.loads(line)["message"] for line in tail.lines]
    return [message for message in messages if message.startswith("record ")]


def _records(count: int) -> list[str]:
    return [f"record {number}" for number in range(1, count + 1)]


def test_redis_is_killed_in_the_middle(redis: RedisServer, settings: dict[str, str], emitter: Emitter) -> None:
    tail = Running("tail", "--tenant", "killed", "--history", "0", "--json", **settings)
    with stopping(tail):
        _wait_until_it_reads(tail, emitter, "killed")
        writer = Writer(emitter, "killed")
        with stopping(writer):
            writer.past(100)
            redis.stop(signal.SIGKILL)
            tail.wait_for("Waiting")
            redis.start()
            tail.wait_for("It is back")
            writer.past(100)
        tail.wait_for(rf'"record {writer.count}"', 40)
        assert _numbered(tail) == _records(writer.count)
        assert tail.stop() == 130
        assert "Traceback" not in tail.errors


def test_the_server_is_restarted_in_the_middle(settings: dict[str, str], emitter: Emitter) -> None:
    node = Node(workers=2, **settings, SOCKET_AUTH_REQUIRED="true", DRAIN_SECONDS="0.5").wait_ready()
    tail = Running("tail", "--url", node.url, "--token", token(), "--history", "0", "--json")
    with stopping(node, tail):
        _wait_until_it_reads(tail, emitter, "acme")
        writer = Writer(emitter, "acme")
        with stopping(writer):
            writer.past(50)
            node.process.send_signal(signal.SIGHUP)
            tail.wait_for("It is back")
            writer.past(50)
            node.process.send_signal(signal.SIGTERM)
            node.process.wait(30)
            until(lambda: tail.errors.count("Waiting") == 2, 30, "it is away again")
            writer.past(50)
            node.process = node._start()
            node.wait_ready()
            until(lambda: tail.errors.count("It is back") == 2, 30, "it is back again")
            writer.past(50)
        tail.wait_for(rf'"record {writer.count}"', 40)
        assert _numbered(tail) == _records(writer.count)
        assert tail.stop() == 130


def test_filters_and_history(settings: dict[str, str], emitter: Emitter) -> None:
    tenant = "filtered"
    for number in range(30):
        level = ("debug", "info", "warn", "error")[number % 4]
        emitter.logs.append(
            tenant,
            message=f"Message {number} of {'Alpha' if number % 2 else 'Beta'}",
            level=level,
            flow_id=f"f{number % 3}",
            run_id=f"r{number % 5}",
            node_id="n",
        )
    shown = run("tail", "-t", tenant, "--no-follow", **settings)
    assert len(shown.stdout.splitlines()) == 10
    assert "\x1b" not in shown.stdout
    moment, level, place, *message = shown.stdout.splitlines()[-1].split()
    assert datetime.fromisoformat(moment).tzinfo is not None
    assert (level, place, " ".join(message)) == ("INFO", "f2/r4/n", "Message 29 of Alpha")

    def numbers(*args: str) -> list[int]:
        done = run("tail", "-t", tenant, "--no-follow", "--history", "1000", "--json", *args, **settings)
        assert done.returncode == 0, done.stderr
        return [int(json.loads(line)["message"].split()[1]) for line in done.stdout.splitlines()]

    everything = range(30)
    assert numbers() == [*everything]
    assert numbers("--level", "WARN") == [number for number in everything if number % 4 >= 2]
    assert numbers("--flow", "f1", "--run", "r1") == [number for number in everything if number % 3 == number % 5 == 1]
    assert numbers("--text", "aLPHA", "--level", "error") == [3, 7, 11, 15, 19, 23, 27]
    assert numbers("--node", "other") == []


def test_new_records_that_match(settings: dict[str, str], emitter: Emitter) -> None:
    tail = Running("tail", "-t", "live", "--level", "warn", "--history", "5", **settings)
    with stopping(tail):
        emitter.logs.append("live", message="begin", level="error")
        tail.wait_for("begin")
        for number in range(20):
            emitter.logs.append("live", message=f"quiet {number}", level="debug")
        emitter.logs.append("live", message="loud", level="warn")
        tail.wait_for("loud")
        assert "quiet" not in tail.text


def test_what_a_terminal_would_obey_is_shown_instead(settings: dict[str, str], emitter: Emitter) -> None:
    emitter.logs.append("evil", message="\x1b[2Jgone\rover\x07 \x9b31m\nsecond", metadata={"\x1b": "\x1b]0;title\x07"})
    done = run("tail", "-t", "evil", "--no-follow", **settings)
    assert not [sign for sign in done.stdout if ord(sign) < 32 and sign != "\n" or 127 <= ord(sign) < 160]
    assert "\\x1b[2Jgone" in done.stdout and "\n    second" in done.stdout


def test_nothing_to_read_from() -> None:
    done = run("tail", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1 and done.stderr.startswith("Error: Redis at 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
    done = run("tail", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1 and "nothing listens at" in done.stderr.lower()
    done = run("tail", "--token", "x", REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 2 and "--url" in done.stderr


def test_a_reader_that_has_enough(settings: dict[str, str], emitter: Emitter) -> None:
    emitter.logs.append("piped", message="one")
    line = f"{sys.executable} -m mintflow_realtime.cli tail -t piped | head -1"
    writer = Writer(emitter, "piped")
    with stopping(writer):
        done = subprocess.run(
            ["sh", "-c", line], cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60
        )
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
