"""The examples as a newcomer runs them: the quick start on two workers, and the page on how to add a namespace."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import ROOT, Node, run_js, stopping, token, until
from tests.watcher import Watcher

STEPS = ("count", "pack", "sum-up", "verify")


@pytest.fixture(scope="module")
def quick_start() -> Iterator[Node]:
    """What `make run` starts: two workers and the embedded Redis."""
    node = Node(workers=2)
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture(scope="module")
def board() -> Iterator[Node]:
    node = Node(application="examples.board:application")
    with stopping(node):
        yield node.wait_ready()


@pytest.fixture
def watched(quick_start: Node, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    """Runs `watch.mjs --once` until it watches; returns the function that waits for its end and gives its lines."""
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules" / "socket.io-client").is_dir():
        assert not os.environ.get("CI"), "node or socket.io-client is missing: run `make setup`"
        pytest.skip("node or socket.io-client is missing: run `make setup`")
    output = tmp_path / "watch.out"
    with open(output, "wb") as out:
        process = subprocess.Popen([node, "examples/watch.mjs", quick_start.url, "--once"], cwd=ROOT, stdout=out)
    try:
        until(lambda: "watching" in output.read_text(), 20, "watch.mjs is connected")

        def lines() -> list[str]:
            assert process.wait(20) == 0
            return [re.sub(r"^[\d:.]{12} +", "", line) for line in output.read_text().splitlines()]

        yield lines
    finally:
        process.kill()
        process.wait(5)


def run_flow(data_dir: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    environ = {"PATH": os.environ["PATH"], "DATA_DIR": str(data_dir)}
    command = [sys.executable, "examples/run_flow.py", "--pause", "0.05", *options]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)


def in_order(lines: list[str], *patterns: str) -> None:
    """Find each pattern in one line, each after the one before."""
    left = iter(lines)
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in left), f"{pattern} is not in its place in {lines}"


def test_a_run_is_watched_live(quick_start: Node, watched: Callable[[], list[str]]) -> None:
    done = run_flow(quick_start.directory / "data", "tests")
    assert done.returncode == 0, done.stderr
    run = f"wordcount/{done.stdout.split()[1]}"
    lines = watched()
    assert lines[:2] == [f"watching {quick_start.url}", f"{run} started"]
    assert lines[-1] == f"{run} completed"
    for number, step in enumerate(STEPS, 1):
        in_order(lines, f"{step} started", rf"{step} \[info\] .+", f"{step} completed", f"{25 * number} %")
    assert len(lines) == len(set(lines)), "nothing is shown twice"
    assert [line for line in lines if re.fullmatch(r"count \[info\] \d+ words in \d+ files", line)]


def test_a_step_that_fails_is_seen_failing(quick_start: Node, watched: Callable[[], list[str]]) -> None:
    done = run_flow(quick_start.directory / "data", "tests", "--fail")
    assert done.returncode == 1
    damaged = "the archive is damaged: .+"
    lines = watched()
    in_order(lines, r"pack \[warn\] .+", rf"verify \[error\] {damaged}", rf"verify failed {damaged}")
    assert re.fullmatch(rf"wordcount/\S+ failed verify: {damaged}", lines[-1])
    assert "verify completed" not in lines and "100 %" not in lines


def test_without_a_server_the_example_says_so(short_path: Path) -> None:
    done = run_flow(short_path)
    assert done.returncode == 2
    assert done.stderr.startswith("not published: ") and done.stderr.count("\n") == 1


def test_the_board_answers_and_tells_the_tenant(board: Node) -> None:
    told = [line.split(":", 1) for line in run_js("../../examples/board.mjs", board.url).splitlines()]
    assert [name.strip() for name, _ in told] == ["answer", "event", "wrong", "stock"]
    answer, event, wrong = (json.loads(text) for _, text in told[:3])
    assert answer["ok"] and answer["data"] == event
    assert event["text"] == "Buy milk" and event["addedBy"].startswith("anonymous-")
    assert wrong["error"]["code"] == "invalid_payload"
    assert told[3][1].strip().startswith('"hooray for Ann" {"by":"anonymous-')


def test_a_note_stays_in_its_tenant(board: Node) -> None:
    acme = Watcher(board.url, "/board", auth={"token": token()})
    other = Watcher(board.url, "/board", auth={"token": token("bob", ["other"])})
    nobody = Watcher(board.url, "/board")
    with stopping(acme, other, nobody):
        assert requests.post(f"{board.url}/notices", json={"text": "Closed today"}, timeout=5).status_code == 200
        assert acme.call("/board", "add_note", {"text": "Ours"})["ok"]
        assert other.call("/board", "add_note", {"text": "Theirs"})["ok"]
        for watcher, text in ((acme, "Ours"), (other, "Theirs"), (nobody, "Closed today")):
            assert [note["text"] for note in watcher.wait("note_added")] == [text]


def test_the_page_shows_the_code_that_runs() -> None:
    page = (ROOT / "docs" / "add-a-namespace.md").read_text()
    blocks = re.findall(r"```(python|js)\n(.*?)```", page, re.DOTALL)
    sources = {
        "python": (ROOT / "examples" / "board.py").read_text(),
        "js": (ROOT / "examples" / "board.mjs").read_text(),
    }
    assert {language for language, _ in blocks} == set(sources)
    for language, block in blocks:
        assert block in sources[language]
