"""The command line without servers: help and usage, tokens, lines as they look, and following over lost numbers."""

import json
import os
import re
import subprocess
import sys
import time
from typing import Any

import click
import jwt
import pytest
from click.testing import CliRunner, Result

from mintflow_realtime.auth.tickets import Tickets, ticket_key
from mintflow_realtime.cli.client.polling import Answer
from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.context import visible
from mintflow_realtime.cli.durations import DURATION
from mintflow_realtime.cli.following import Follower, position_of
from mintflow_realtime.cli.group import COMMANDS, commands
from mintflow_realtime.cli.log_lines import LogLines
from mintflow_realtime.cli.probe.proxies import Fault, advice, proxy_of
from mintflow_realtime.cli.run_board import Row, RunBoard
from mintflow_realtime.cli.run_lines import RunLines, changes, duration
from mintflow_realtime.cli.sources.base import Record, Run
from mintflow_realtime.settings.table import SETTINGS
from tests.command import environment
from tests.servers import ROOT, SECRET


def _run(*args: str, **env: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith(("MINTFLOW_", "SOCKET_", "JWT_", "REDIS_"))}
    return CliRunner().invoke(commands, args, env={**clean, **env}, prog_name="mintflow")


def _all_commands() -> list[tuple[str, ...]]:
    return [(name,) for name in COMMANDS] + [("publish", name) for name in ("log", "event", "custom")]


@pytest.mark.parametrize("path", _all_commands(), ids=" ".join)
def test_each_help_has_examples_that_are_its_own(path: tuple[str, ...]) -> None:
    done = _run(*path, "--help")
    assert done.exit_code == 0
    examples = done.output.partition("Examples:\n")[2].splitlines()
    assert examples and all(line.startswith("  $ ") for line in examples)
    assert any(f"mintflow {' '.join(path)}" in line for line in examples)
    command: Any = commands
    for name in path:
        command = command.get_command(click.Context(command), name)
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word for line in examples for word in re.findall(r"(?<=\s)--[a-z-]+", line.split("-- ")[0].split("$(")[0])}
    if path != ("publish",):
        assert used - {"--app"} <= options, "an example shows an option that there is not"


def test_the_help_lists_all_commands() -> None:
    done = _run()
    for name in COMMANDS:
        assert re.search(rf"^  {name}  .*[^.]\.$", done.output, re.MULTILINE), name
    assert "..." not in done.output.partition("Commands:")[2], "no description is cut"


def test_what_there_is_not() -> None:
    done = _run("frobnicate")
    assert done.exit_code == 2 and "No such command 'frobnicate'" in done.output
    done = _run("tail", "--frob")
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("missing", "args"), [("click", []), ("wsproto", ["tail"]), ("jwt", ["token", "-u", "a", "-t", "b"])]
)
def test_without_the_extra_one_sentence_says_what_to_install(missing: str, args: list[str]) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {args}\n"
    code += "import mintflow_realtime.cli.main as m; m.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=60
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert missing in line and line.endswith("pip install 'mintflow-realtime[server]'")


def test_flask_finds_the_group_and_it_is_quick() -> None:
    code = (
        "import mintflow_realtime.cli.main as m, sys; g = m.flask_group; import click\n"
        "assert isinstance(g, click.Group) and g.name == 'mintflow'\n"
        "print([n for n in ('redis', 'msgspec', 'gevent', 'flask', 'jwt', 'socketio') if n in sys.modules])"
    )
    # What measures coverage imports gevent itself.
    env = {name: value for name, value in environment().items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_settings() -> None:
    done = _run("settings", JWT_SECRET=SECRET, MINTFLOW_PORT="4000", REDIS_URL="redis://:hunter2@redis/0")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == len(SETTINGS)
    rows = {line.split()[0]: line.split()[1:] for line in done.output.splitlines()}
    assert rows["PORT"] == ["4000", "MINTFLOW_PORT"] and rows["LOG_LEVEL"] == ["info", "default"]
    assert rows["JWT_SECRET"] == ["(hidden)", "JWT_SECRET"]
    assert SECRET not in done.output and "hunter2" not in done.output
    done = _run("settings", "--set", "--json", JWT_SECRET=SECRET)
    assert {row["name"]: row["value"] for row in json.loads(done.output)}["JWT_SECRET"] == "(hidden)"
    done = _run("settings", "port", "--meaning")
    assert "The TCP port" in done.output
    done = _run("settings", "port", PORT="x")
    assert done.exit_code == 1 and "PORT" in done.output.splitlines()[0] and "Error: PORT must be" in done.output


def test_version() -> None:
    done = _run("version")
    names = [line.split()[0] for line in done.output.splitlines()]
    assert names[:3] == ["mintflow-realtime", "python", "redis"] and {"gunicorn", "python-socketio"} <= {*names}
    assert all(re.fullmatch(r"\S+ +[0-9]\S*|openai +not installed", line) for line in done.output.splitlines())


def test_token() -> None:
    args = ("token", "-u", "ann", "-t", "acme", "-t", "globex", "--default-tenant", "globex", "--name", "Ann B.")
    scope = ("-s", "logs:read flows:read", "-s", "logs:write")
    done = _run(*args, *scope, "--expires", "90m", JWT_SECRET=SECRET, JWT_ISSUER="me", JWT_AUDIENCE="you")
    assert done.exit_code == 0, done.output
    claims = jwt.decode(done.output.strip(), SECRET, ["HS256"], audience="you", issuer="me")
    assert claims["exp"] - claims["iat"] == 5400 and abs(claims["iat"] - time.time()) < 60
    fields = ("userId", "tenants", "tenantId", "name", "scope")
    assert [claims[name] for name in fields] == [
        "ann", ["acme", "globex"], "globex", "Ann B.", "logs:read flows:read logs:write",
    ]  # fmt: skip
    assert "scope" not in jwt.decode(
        _run("token", "-u", "a", "-t", "b", JWT_SECRET=SECRET).output.strip(), SECRET, ["HS256"]
    )


@pytest.mark.parametrize(
    ("args", "env", "code", "said"),
    [
        (("-u", "a", "-t", "b"), {}, 1, "JWT_SECRET is not set: take one from `openssl rand -hex 32`"),
        (("-u", "a", "-t", "b", "-e", "31d"), {"JWT_SECRET": SECRET}, 1, "at most JWT_MAX_LIFETIME"),
        (("-u", "a", "-t", "b", "-e", "soon"), {"JWT_SECRET": SECRET}, 2, "'soon' is no duration"),
        (("-u", "a", "-t", "b", "-s", "logs:eat"), {"JWT_SECRET": SECRET}, 2, "'logs:eat' is no scope"),
        (("-u", "a", "-t", "b", "--default-tenant", "c"), {"JWT_SECRET": SECRET}, 2, "must be one of the tenants"),
        (("-u", "a", "-t", "a b"), {"JWT_SECRET": SECRET}, 1, "tenant"),
        (("-t", "b"), {"JWT_SECRET": SECRET}, 2, "--user"),
        (("-u", "a", "-t", "b"), {"JWT_SECRET": "short"}, 1, "JWT_SECRET must have at least 32 bytes"),
    ],
)
def test_tokens_that_cannot_be(args: tuple[str, ...], env: dict[str, str], code: int, said: str) -> None:
    done = _run("token", *args, **env)
    assert done.exit_code == code, done.output
    assert said in done.output.replace("\n", " ")


def test_ticket() -> None:
    done = _run("ticket", "-u", "ann", "-t", "acme", "-s", "logs:read", "--session", "10m", JWT_SECRET=SECRET)
    assert done.exit_code == 0, done.output
    claims = Tickets(ticket_key(None, SECRET)).verify(done.stdout.strip()).claims
    assert (claims.user_id, claims.tenants, claims.scope) == ("ann", ("acme",), "logs:read")
    assert 590 < claims.exp - time.time() <= 600
    assert "30 s" in done.stderr
    done = _run("ticket", "-u", "ann", "-t", "acme")
    assert done.exit_code == 1 and "Neither TICKET_SECRET nor JWT_SECRET is set" in done.output
    done = _run("ticket", "-u", "ann", "-t", "acme", "--session", "2h", JWT_SECRET=SECRET)
    assert done.exit_code == 1 and "3600" in done.output


def test_durations() -> None:
    for text, seconds in (("90", 90), ("1.5s", 1.5), ("15m", 900), ("1h", 3600), ("7d", 604800)):
        assert DURATION.convert(text, None, None) == seconds
    for text in ("", "h", "-1", "1 h", "1e3", "1w", "٣"):
        with pytest.raises(click.BadParameter):
            DURATION.convert(text, None, None)
    shown = [duration(seconds) for seconds in (0.04, 9.94, 12.3, 59.4, 61, 3599, 7387)]
    assert shown == ["0.0 s", "9.9 s", "12 s", "59 s", "1:01", "59:59", "2:03:07"]


def test_visible() -> None:
    assert visible("a\x1b[31mb\r\nc\td\x7f\x9b") == "a\\x1b[31mb\n    c\td\\x7f\\x9b"


def test_targets() -> None:
    target = Target.parse("https://host.example/base/", "/socket.io", None, None)
    assert (target.authority, target.path, target.port) == ("host.example", "/base/socket.io/", 443)
    assert Target.parse("[::1]:3000", "/s", None, None).authority == "[::1]:3000"
    assert Target.parse("wss://h", "/s", "t", "acme").auth == {"token": "t", "tenantId": "acme"}
    assert "secret" not in repr(Target.parse("h", "/s", "secret", None))
    for url in ("ftp://h", "http://", "http://a:b@h", "http://h:x", "http://[::1"):
        with pytest.raises(click.UsageError):
            Target.parse(url, "/s", None, None)


def _answer(**headers: str) -> Answer:
    return Answer(200, "1.1", {name.replace("_", "-"): [value] for name, value in headers.items()}, "")


def test_proxies_are_known_by_what_they_say() -> None:
    assert proxy_of(_answer(server="nginx/1.22.1")) == "nginx"
    assert proxy_of(_answer(server="Apache/2.4.71 (Debian)")) == "Apache"
    assert proxy_of(_answer(via="1.1 host (Varnish/7.1)")) == "Varnish"
    assert proxy_of(_answer(x_varnish="3")) == "Varnish"
    assert proxy_of(_answer(server="envoy")) == "Envoy"
    assert proxy_of(_answer()) == ""
    for fault in Fault:
        assert advice(fault, "nginx").startswith("nginx: ") and advice(fault, "nobody's")
        assert len(advice(fault, "").splitlines()) >= 2, "of the most usual ones where none is known"


def _record(milliseconds: int, number: int, **more: Any) -> Record:
    return {
        "logId": f"{milliseconds}-{number}",
        "logLevel": "info",
        "message": f"m{number}",
        "metadata": {},
        "createdAt": "2026-11-29T08:00:00.000Z",
        **more,
    }


class FakeLogs:
    """A source of records in memory, three a page."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.asked: list[dict[str, Any]] = []

    def page(self, criteria: dict[str, Any]) -> tuple[list[Record], str | None]:
        self.asked.append(criteria)
        before = criteria.get("before")
        rest = [one for one in self.records if before is None or position_of(one["logId"]) < position_of(before)]
        rest = [one for one in rest if criteria.get("minLevel") in (None, one["logLevel"])]
        page = rest[-min(3, criteria["limit"]) :]
        return page, page[0]["logId"] if len(page) < len(rest) else None

    def wait(self, seconds: float) -> None:
        raise AssertionError("not here")

    def close(self) -> None:
        pass


def test_a_follower_shows_each_record_once() -> None:
    source = FakeLogs()
    source.records = [_record(1000, number) for number in range(1, 9)]
    follower = Follower(source, {})
    assert [one["message"] for one in follower.begin(5)] == ["m4", "m5", "m6", "m7", "m8"]
    assert follower.new() == []
    # Of one millisecond too, over several pages, and in order.
    source.records += [_record(1000, number) for number in range(9, 19)]
    assert [one["message"] for one in follower.new()] == [f"m{number}" for number in range(9, 19)]
    assert follower.new() == []


def test_a_follower_goes_on_after_numbers_were_lost() -> None:
    source = FakeLogs()
    source.records = [_record(1000, 500)]
    follower = Follower(source, {})
    follower.begin(0)
    source.records = [_record(2000, 1), _record(2000, 2)]
    assert [one["logId"] for one in follower.new()] == ["2000-1", "2000-2"]
    source.records = []
    assert follower.new() == []


def test_a_follower_looks_no_further_back_than_it_must() -> None:
    source = FakeLogs()
    source.records = [_record(number, number) for number in range(1, 100)]
    follower = Follower(source, {"minLevel": "error"})
    assert follower.begin(10) == []
    source.records.append(_record(100, 100))
    source.asked.clear()
    assert follower.new() == []
    assert source.asked[-1]["from"] == "1970-01-01T00:00:00.099Z"
    source.records.append(_record(101, 101, logLevel="error"))
    assert [one["message"] for one in follower.new()] == ["m101"]
    assert source.asked[-1]["from"] == "1970-01-01T00:00:00.100Z", "what didn't match was looked at too"


def test_log_lines() -> None:
    record = _record(1, 1, flowId="f", runId="r", nodeId="n", logLevel="error", metadata={"a": [1]})
    plain = click.unstyle(LogLines(terminal=False).text(record))
    assert plain == '2026-11-29T08:00:00.000Z  ERROR  f/r/n  m1  {"a":[1]}'
    known = LogLines(terminal=False, known=frozenset({"flowId", "runId"}))
    assert click.unstyle(known.text(record)).split()[2] == "n"
    terminal = LogLines(terminal=True)
    first, second = (click.unstyle(terminal.text(record)) for _ in range(2))
    assert first.splitlines()[0].endswith("November 2026") and len(second.splitlines()) == 1


def _snapshot(status: str, progress: float = 0, **nodes: str) -> Run:
    end = {} if status == "started" else {"finishedAt": "2026-11-29T08:00:12.000Z"}
    begin = {"startedAt": "2026-11-29T08:00:00.000Z"}
    return {
        "flowId": "f",
        "runId": "r",
        "status": status,
        "progress": progress,
        **begin,
        **end,
        "nodes": {name: {"status": one, **begin} for name, one in nodes.items()},
    }


def test_changes_of_a_run() -> None:
    first, second = _snapshot("started", 0, a="started"), _snapshot("started", 50, a="completed", b="started")
    assert [*changes(None, first)] == ["f/r  started", "f/r  a  started"]
    assert [*changes(first, first)] == []
    assert [*changes(first, second)] == ["f/r  a  completed", "f/r  b  started", "f/r  50 %"]
    assert [*changes(second, _snapshot("completed", 100, a="completed", b="started"))] == ["f/r  completed after 12 s"]
    again = _snapshot("started", 0)
    assert [*changes(_snapshot("failed"), again)] == ["f/r  started"]


def test_bars() -> None:
    lines = RunLines(100, plain=True)
    row = Row(_snapshot("started", 50, a="completed", b="started", c="failed"), 0)
    text = click.unstyle(lines.of_run(row, 1795939212.0))
    assert text == "*  f/r  ############------------   50 %  running      12 s  1 done, 1 failed, b"
    ended = _snapshot("completed", 50, a="started")
    assert "100 %" in lines.of_run(Row(ended, 0), 0)
    assert "unknown" in [*lines.of_nodes(ended, 0, 10)][0]
    many = _snapshot("started", 0, **{f"n{number:03d}": "completed" for number in range(100)}, late="started")
    shown = [click.unstyle(line) for line in lines.of_nodes(many, 0, 5)]
    assert len(shown) == 5 and "late" in shown[0] and shown[-1] == "    and 97 more nodes"
    narrow = RunLines(30, plain=False)
    assert all(len(click.unstyle(line)) < 30 for line in [narrow.of_run(row, 0), *narrow.of_nodes(row.run, 0, 10)])


def test_a_board_forgets_runs_that_have_ended() -> None:
    board = RunBoard()
    for number in range(2000):
        board.put(_snapshot("completed") | {"runId": f"r{number}"}, 0)
    board.put(_snapshot("started") | {"runId": "goes on"}, 0)
    for number in range(2000):
        board.put(_snapshot("failed") | {"runId": f"s{number}"}, 0)
    assert len(board.all()) == 1000 and board.has("goes on")
    assert [row.run["runId"] for row in board.rows(2e9)] == ["goes on"]
    assert board.ended("s1999") == "failed" and board.ended("goes on") == ""
