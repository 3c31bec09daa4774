"""`mintflow exec`: a command as a run, whose output, end and signals are as they would be without it."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mintflow_realtime.cli.group import commands
from mintflow_realtime.protocol.logs import FilterLogs
from tests.command import environment, run
from tests.exec_told import EXEC, Told, sh
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, free_port, until


@pytest.fixture
def told(shared_redis: PrivateRedis, request: pytest.FixtureRequest) -> Iterator[Told]:
    settings = {"REDIS_URL": shared_redis.url, "REDIS_PREFIX": "exec", "LOGS_MAX": "100000"}
    found = Told(settings, request.node.name.replace("_", "-"))
    yield found
    found.emit.close()


@pytest.fixture
def alone(private_redis: PrivateRedis) -> Iterator[Told]:
    found = Told({"REDIS_URL": private_redis.url}, "acme")
    yield found
    found.emit.close()


def test_output_passes_through_and_is_told(told: Told) -> None:
    script = r"cat; printf '\033[31mERROR\033[0m disk\ncaf\351\n'; echo 'disk full' >&2; printf 'last'; exit 3"
    args = ("--node", "n", "--tag", "a", "--tag", "b", "--name", "Nightly", "--lease", "1m")
    done = told.exec("r", *args, *sh(script), stdin=b"of stdin\r\n")
    assert (done.returncode, done.stderr) == (3, b"disk full\n")
    assert done.stdout == b"of stdin\r\n\x1b[31mERROR\x1b[0m disk\ncaf\xe9\nlast"
    records = told.records("r")
    shown = [(one["metadata"]["stream"], one["logLevel"], one["message"]) for one in records]
    assert [one[1:] for one in shown if one[0] == "stdout"] == [
        ("info", "of stdin"),
        ("error", "\x1b[31mERROR\x1b[0m disk"),
        ("info", "caf\ufffd"),
        ("info", "last"),
    ]
    assert [one[1:] for one in shown if one[0] == "stderr"] == [("warn", "disk full")]
    assert all((one["flowId"], one["nodeId"]) == ("f", "n") and "timestamp" in one for one in records)
    found = told.run("r")
    assert (found["status"], found["name"], found["tags"], found["lease"]) == ("failed", "Nightly", ["a", "b"], 60)
    assert found["error"] == found["nodes"]["n"]["error"] == "exit code 3: disk full"


def test_the_end_is_the_commands(told: Told, tmp_path: Path) -> None:
    bare, closed = tmp_path / "bare", tmp_path / "closed"
    bare.write_text("exit $1")
    bare.chmod(0o755)
    closed.write_text("")
    for number, (command, code, error) in enumerate(
        [
            (["true"], 0, None),
            (["sh", "-c", "kill -9 $$"], 137, "killed by SIGKILL"),
            ([str(tmp_path / "none")], 127, f"{tmp_path}/none: command not found"),
            ([str(closed)], 126, f"{closed}: Permission denied"),
            ([str(bare), "7"], 7, "exit code 7"),
        ]
    ):
        done = told.exec(f"r{number}", *command)
        said = f"mintflow: {error}\n".encode() if code in (126, 127) else b""
        assert (done.returncode, done.stderr) == (code, said)
        assert told.end(f"r{number}") == ("failed" if code else "completed", error)


def test_signals_reach_all_of_the_command(told: Told) -> None:
    script = "trap 'echo got it; exit 5' TERM INT HUP; echo ready; while :; do sleep 0.05; done"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        going = told.running(str(number), *sh(script))
        going.wait_for("ready")
        assert going.stop(number) == 5 and going.lines == ["ready", "got it"], going.errors
        status, error = told.end(str(number))
        # Some shells say "Terminated" of the command that they wait for.
        assert status == "failed" and error is not None and error.startswith("exit code 5")
    going = told.running("dies", *sh("echo ready; sleep 600; echo not this"))
    going.wait_for("ready")
    # The shell's child got it too: it would hold the output open.
    assert going.stop(signal.SIGTERM) == 143 and going.lines == ["ready"]
    assert told.end("dies") == ("failed", "killed by SIGTERM")


def test_a_cancel_is_sigterm_and_then_sigkill(told: Told) -> None:
    stubborn = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done"
    going = [
        told.running("kind", "--node", "n", *sh("trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done")),
        told.running("stubborn", "--kill-after", "0.5", *sh(stubborn)),
    ]
    for one, run_id, code in zip(going, ("kind", "stubborn"), (0, 137), strict=True):
        one.wait_for("ready")
        until(lambda run_id=run_id: told.run(run_id))
        told.emit.flows.cancel(told.who.tenant, "f", run_id, "enough")
        assert one.process.wait(30) == code, one.errors
        assert told.end(run_id) == ("cancelled", None)
    assert told.run("kind")["nodes"]["n"]["status"] == "cancelled" and "no" in going[1].lines


def test_many_lines_are_bounded_and_what_was_dropped_is_told(told: Told) -> None:
    done = told.exec("r", "--", "seq", "100000")
    assert done.returncode == 0 and done.stdout.count(b"\n") == 100_000
    count, dropped, before = 0, 0, None
    while True:
        page = told.emit.logs.read(told.who, FilterLogs(run_id="r", limit=1000, before=before))
        for record in (json.loads(bytes(text)) for text in page.logs):
            dropped += record["metadata"].get("dropped", 0)
            count += "stream" in record["metadata"]
        if not page.next_cursor:
            break
        before = page.next_cursor
    assert count >= 10_000
    # On a machine that is too busy for that in the five seconds at the end, it is said.
    assert count + dropped == 100_000 or b"mintflow: not all of run r could be told" in done.stderr


def test_a_long_line_is_cut_and_progress_is_few_records(told: Told) -> None:
    script = "print('x' * 200_000); [print(f'\\r{n} %', end='') for n in range(101)]; print(); print('y' * 3_000_000)"
    done = told.exec("r", "--", sys.executable, "-c", script)
    assert done.returncode == 0 and len(done.stdout) > 3_200_000
    long, *progress = told.records("r")
    assert (long["truncated"], long["originalLength"]) == (True, 200_000)
    states = [one["message"] for one in progress if one["message"].endswith("%")]
    assert states[-1] == "100 %" and len(states) < 10
    assert sum(one["originalLength"] for one in progress if one.get("truncated")) == 3_000_000


def test_what_is_left_running_does_not_hold_the_run(told: Told) -> None:
    done = subprocess.Popen(
        [*EXEC, "-f", "f", "-r", "r", "-t", told.who.tenant, *sh("sleep 600 & echo $!")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(**told.settings),
    )
    assert done.stdout is not None
    left = int(done.stdout.readline())
    try:
        assert done.wait(30) == 0 and told.end("r") == ("completed", None)
    finally:
        os.kill(left, signal.SIGKILL)
        done.stdout.close()


def test_who_reads_no_more_ends_the_command_as_ever(told: Told) -> None:
    done = subprocess.Popen(
        [*EXEC, "-f", "f", "-r", "r", "-t", told.who.tenant, *sh("while echo y; do sleep 0.05; done")],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(**told.settings),
    )
    assert done.stdout is not None and done.stdout.readline() == b"y\n"
    done.stdout.close()
    assert done.wait(30) == 141 and told.end("r") == ("failed", "killed by SIGPIPE")


def test_a_terminal_is_the_commands_own(told: Told) -> None:
    process, terminal = pty.fork()
    if process == 0:
        script = "trap 'exit 9' INT; read line; echo read $line; kill -TSTP 0; echo back; while :; do sleep 0.1; done"
        command = [*EXEC, "-f", "f", "-r", "r", "-t", told.who.tenant, *sh(script)]
        os.chdir(ROOT)
        os.execve(sys.executable, command, environment(**told.settings))
    try:
        os.write(terminal, b"hello\n")
        text = b""
        while b"back" not in text:
            # Nobody could continue it, so that Ctrl-Z is undone at once.
            text += os.read(terminal, 1000)
        assert b"read hello" in text
        os.write(terminal, b"\x03")
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 9 and told.run("r")["error"].startswith("exit code 9")
    finally:
        os.close(terminal)


def test_redis_that_comes_back_is_told_all(alone: Told, private_redis: PrivateRedis, tmp_path: Path) -> None:
    private_redis.pause()
    script = f"echo one; until [ -e {tmp_path}/back ]; do sleep 0.05; done; echo two >&2"
    going = alone.running("r", *sh(script))
    going.wait_for("one")
    private_redis.resume()
    until(lambda: alone.records("r"), 30)
    private_redis.pause()
    (tmp_path / "back").touch()
    going.wait_for("two")
    private_redis.resume()
    assert going.process.wait(30) == 0
    assert going.errors == "two\n" and alone.end("r") == ("completed", None)
    assert [(one["message"], one["logLevel"]) for one in alone.records("r")] == [("one", "info"), ("two", "warn")]


def test_without_redis_the_command_runs_all_the_same() -> None:
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run("exec", "--flow", "f", *sh("cat; echo oops >&2; exit 4"), stdin="in", **away)
    assert (done.returncode, done.stdout) == (4, "in")
    first, *rest = done.stderr.splitlines()
    assert first == "oops" and len(rest) == 1 and rest[0].startswith("mintflow: not all of run "), done.stderr


def test_a_redis_that_refuses_is_said(alone: Told, private_redis: PrivateRedis) -> None:
    with private_redis.client() as client:
        client.config_set("requirepass", "secret")
    done = alone.exec("r", "--", "true")
    assert done.returncode == 0 and done.stderr.count(b"\n") == 1
    assert b"could be told: " in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("true",), "--flow"),
        (("--flow", "f"), "COMMAND"),
        (("--flow", "a\nb", "true"), "--flow: "),
        (("--flow", "f", "--node", "a\nb", "true"), "--node: "),
        (("--flow", "f", "--lease", "4", "touch", "{}"), "--lease: Expected 5 to 3600 seconds"),
        (("--flow", "f", "--lease", "soon", "touch", "{}"), "is no duration"),
        (("--flow", "f", *["--tag", "x"] * 11, "touch", "{}"), "--tag: "),
        (("--flow", "f", "--tenant", "a b", "touch", "{}"), "--tenant: "),
        (("--flow", "f", "--name", "x" * 256, "touch", "{}"), "--name: "),
        (("--flow", "f", "--frob", "touch", "{}"), "--frob"),
    ],
)
def test_wrong_options_are_said_before_anything_runs(
    told: Told, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "touched"
    words = ["exec", *(arg.replace("{}", str(file)) for arg in args)]
    done = CliRunner().invoke(commands, words, env=told.settings, prog_name="mintflow")
    assert (done.exit_code, said in done.output, file.exists()) == (2, True, False), done.output
