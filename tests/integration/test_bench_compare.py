"""Two checkouts are measured side by side, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, until

pytestmark = pytest.mark.thorough

SECONDS = 110


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a directory whose path is short: a UNIX socket's has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mf-compare-", dir="/tmp") as directory:
        yield Path(directory)


def start(place: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(ROOT / "bench" / "compare.py"), *arguments],
        # What it starts has its directory there, and says so in its environment.
        env={"PATH": os.environ["PATH"], "TMPDIR": str(place), "BENCH_QUICK": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started_in(place: Path) -> set[str]:
    """Return the command lines of all processes that it, or what it started, has started."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # Redis writes its title over its environment; what it prints goes into its directory.
                told = (entry / "environ").read_bytes() + os.fsencode(os.readlink(entry / "fd" / "1"))
                if os.fsencode(place) in told:
                    found.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                pass  # ended meanwhile
    return found


def assert_nothing_is_left(place: Path) -> None:
    until(lambda: not started_in(place), 20, f"all have ended: {started_in(place)}")
    assert [path.suffix for path in place.iterdir()] == [".jsonl"]


@pytest.mark.independent
def test_a_checkout_is_compared_with_itself(place: Path) -> None:
    with start(place, str(ROOT), str(ROOT), "--rounds", "1", "--only", "publish", "--only", "block") as running:
        out, err = running.communicate(timeout=SECONDS)
    assert running.returncode == 0, (out, err)
    for figure in ("1 MB message, CPU ms", "publish an event, µs", "publish a log record, Redis µs"):
        [line] = [line for line in out.splitlines() if line.startswith(f"{figure}  ")]
        old, new, ratio = line[len(figure) :].split()[:3]
        # Of one and the same; how near to 1 depends on who else uses the machine.
        assert float(ratio) == pytest.approx(float(new) / float(old), rel=0.1) and 0.2 < float(ratio) < 5, line
    assert_nothing_is_left(place)


@pytest.mark.independent
def test_all_is_stopped_where_it_is_told_to_end(place: Path) -> None:
    with start(place, str(ROOT), str(ROOT), "--rounds", "1", "--only", "ack") as running:
        until(lambda: running.poll() is not None or any("main.mjs" in one for one in started_in(place)), 60)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + signal.SIGTERM
    assert_nothing_is_left(place)


@pytest.mark.independent
def test_a_folder_that_is_no_checkout_is_refused_in_one_sentence(place: Path) -> None:
    with start(place, str(place), str(ROOT)) as running:
        out, err = running.communicate(timeout=SECONDS)
    assert (running.returncode, out) == (2, "")
    assert err == f"compare: {place} is no checkout of this project: it has no gunicorn.conf.py\n"


@pytest.mark.independent
def test_a_checkout_whose_python_imports_another_is_refused(place: Path) -> None:
    from bench.harness.checkouts import NEEDED

    other = place / "other"
    for name in NEEDED:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).touch()
    with start(place, str(ROOT), str(other)) as running:
        out, err = running.communicate(timeout=SECONDS)
    assert (running.returncode, out) == (2, "")
    assert err.startswith(f"compare: {sys.executable} in {other} imports the server from ") and err.count("\n") == 1
