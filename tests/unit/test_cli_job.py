"""What a command's output is told as: levels by what lines say, and lines that are rewritten."""

import pytest

from mintflow_realtime.cli.job.levels import level_of_line
from mintflow_realtime.cli.job.lines import MOST_BYTES, Lines


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-30 02:00:00,123 ERROR disk full", "error"),
        ("2026-11-30T02:00:00Z [main] WARN  c.e.Pool - slow", "warn"),
        ("\x1b[31mERROR\x1b[0m: disk", "error"),
        ("[\x1b[33mwarn\x1b[39m] cache is cold", "warn"),
        ("INFO retried after ERROR", "info"),
        ("error: no such file", "error"),
        ("x.c:12:3: warning: unused variable", "warn"),
        ("fatal: not a git repository", "error"),
        ("panic: runtime error", "error"),
        ("npm ERR! missing script", "error"),
        ("DEBUG:root:x", "debug"),
        ("<debug> x", "debug"),
        ('{"level":"error","msg":"INFO"}', "error"),
        ("time=1 level=warning msg=x", "warn"),
        ("severity: Notice", "info"),
        ("Traceback (most recent call last):", "error"),
        ("json.decoder.JSONDecodeError: Expecting value", "error"),
        ("KeyError", "error"),
        ("WARNING " + "x" * 100_000, "warn"),
    ],
)
def test_a_line_says_its_level(line: str, level: str) -> None:
    assert level_of_line(line, "stdout") == level_of_line(line, "stderr") == level


@pytest.mark.parametrize(
    "line",
    [
        "0 errors, 2 warnings",
        "ERROR_COUNT=0",
        "DEBUG=1 make",
        "TypeErrors are caught",
        "the error was mended",
        "level=42",
        "x" * 300 + " ERROR",
        "",
    ],
)
def test_where_a_line_says_nothing_the_stream_does(line: str) -> None:
    assert (level_of_line(line, "stdout"), level_of_line(line, "stderr")) == ("info", "warn")


def test_lines_are_those_that_are_not_blank() -> None:
    lines = Lines()
    assert lines.feed(b"a\r", 0) == [] and lines.feed(b"\nb\n\n  \n\x1b[0m\nc", 0.1) == ["a", "b"]
    assert lines.feed(b"\xff\xc3", 0.2) == [] and lines.feed(b"\xa4\n", 0.3) == ["c\ufffdä"]
    assert lines.feed(b"rest", 9) == [] and lines.end() == ["rest"] and lines.end() == []


@pytest.mark.parametrize("form", ["\r{} %", "{} %\r", "\r\x1b[K{} %", "{} %\r\x1b[K"])
def test_a_line_that_is_rewritten_is_told_once_a_second_and_as_it_ended(form: str) -> None:
    lines, told = Lines(), []
    for number in range(100):
        told += lines.feed(form.format(number).encode(), number / 40)
    assert len(told) == 2 and lines.look(2.6) == []
    told += lines.look(9)
    assert len(told) == 3 and "99 %" in told[-1] and lines.look(99) == []
    assert lines.feed(b"\n", 100) == [], "the last state was told"
    assert lines.feed(form.format(1).encode() + b"\ndone\n", 101)[-1] == "done"
    assert len(lines._rest) == 0


def test_an_endless_line_is_kept_in_part() -> None:
    lines, told = Lines(), []
    for _ in range(50):
        told += lines.feed(b"x" * 65_536, 0)
        assert len(lines._rest) <= MOST_BYTES
    assert len(told) == 3
    rewritten = Lines()
    for _ in range(1000):
        rewritten.feed(b"\r" + b"x" * 1000, 0)
    assert len(rewritten._rest) < 3000
