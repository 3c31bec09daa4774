"""The process that ends what a test process started, once that one is gone, however it went. Standard library only.

It reads one pipe, which the test process alone writes to: the pipe's end is the end of that process.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress


def watch(lines: Iterable[str]) -> None:
    """Follow `lines` (`+group 12`, `-group 12`, `+directory /a`, …) to their end; then kill and remove what is left."""
    left: dict[str, list[str]] = {"group": [], "directory": []}
    for line in lines:
        verb, _, value = line.rstrip("\n").partition(" ")
        kind = left[verb[1:]]
        if verb[0] == "+":
            kind.append(value)
        elif value in kind:
            kind.remove(value)
    for group in left["group"]:
        with suppress(OSError):
            os.killpg(int(group), signal.SIGKILL)
    for directory in left["directory"]:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)
