"""The checkout that counts nothing, which the cost of counting is measured beside."""

import py_compile
import re
from pathlib import Path

from bench.without_metrics import make, without

COUNTS = """\
from mintflow_realtime.metrics import series
from mintflow_realtime.metrics.series import CONNECTS, SENT as SENT_BYTES


def act(rooms: set[str], name: str) -> None:
    if name:
        CONNECTS.add(name)
    SENT_BYTES.value += len(
        name
    )
    series.LAG.observe(1.0, name)
    rooms.add(name)
    OTHER.value += 1
"""
COUNTS_NOTHING = """\
from mintflow_realtime.metrics import series
from mintflow_realtime.metrics.series import CONNECTS, SENT as SENT_BYTES


def act(rooms: set[str], name: str) -> None:
    if name:
        pass
    pass


    pass
    rooms.add(name)
    OTHER.value += 1
"""


def test_what_counts_is_left_out_and_nothing_else() -> None:
    assert without(COUNTS) == (COUNTS_NOTHING, 3)
    assert without("def start() -> None:\n    begin()\n    go_on(\n        1)\n", "start")[0].count("pass") == 1


def test_a_checkout_of_which_nothing_counts(tmp_path: Path) -> None:
    folder = tmp_path / "without"
    assert make(folder) > 70
    counting = re.compile(r"^\s+(series\.)?[A-Z]\w+\.(add|observe)\(|^\s+[A-Z]\w+\.value \+=", re.MULTILINE)
    for path in (folder / "mintflow_realtime").rglob("*.py"):
        py_compile.compile(str(path), doraise=True)
        if path.name != "series.py":
            assert not counting.search(path.read_text()), path
    assert (folder / "mintflow_realtime" / "auth").is_symlink()
