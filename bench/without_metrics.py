"""Make a checkout that counts nothing, to measure beside one that does: `python bench/without_metrics.py FOLDER`.

Every statement that adds to a series of `metrics/series.py` becomes `pass` there, and no worker hands numbers over; so
what is left out is the whole of it but for a look at the clock here and there. Then `make compare OLD=FOLDER`.
"""

import argparse
import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIES = "mintflow_realtime.metrics.series"
COUNTING = ("add", "set", "observe")
# The loops that hand over, and look how late the event loop is.
HANDING_OVER = ("mintflow_realtime/app/metrics.py", "start")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="without_metrics.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to make it; must not exist")
    folder: Path = parser.parse_args().folder
    if folder.exists():
        parser.error(f"{folder} exists")
    removed = make(folder)
    print(f"{folder}: {removed} statements that count are left out. make compare OLD={folder}")


def make(folder: Path) -> int:
    """Copy what git knows of to `folder` without what counts; return how many statements were left out."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
    removed = 0
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if not source.is_symlink() and not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py") and not name.startswith(("tests/", "bench/")) and not source.is_symlink():
            text, count = without(source.read_text(), ends=HANDING_OVER[1] if name == HANDING_OVER[0] else "")
            target.write_text(text)
            removed += count
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    return removed


def without(text: str, ends: str = "") -> tuple[str, int]:
    """Return a module's text without what counts, and how much that was; a function called `ends` does nothing."""
    lines, tree = text.splitlines(keepends=True), ast.parse(text)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _counts(node, set(_series(tree)))]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and ends and function.name == ends:
            found += function.body[1:]
    for node in found:
        # A statement has its lines to itself: the formatter sees to that.
        end = node.end_lineno or node.lineno
        lines[node.lineno - 1 : end] = [" " * node.col_offset + "pass\n"] + ["\n"] * (end - node.lineno)
    return "".join(lines), len(found)


def _series(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == SERIES:
            yield from (one.asname or one.name for one in node.names)


def _counts(node: ast.stmt, series: set[str]) -> bool:
    if isinstance(node, ast.AugAssign):
        target = node.target
        return isinstance(target, ast.Attribute) and target.attr == "value" and _is_one(target.value, series)
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    return isinstance(function, ast.Attribute) and function.attr in COUNTING and _is_one(function.value, series)


def _is_one(node: ast.expr, series: set[str]) -> bool:
    """Tell whether an expression is a series: by its own name, or as `series.NAME`."""
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "series"
    return isinstance(node, ast.Name) and node.id in series


if __name__ == "__main__":
    main()
