"""What a process has cost so far, from /proc: CPU time in nanoseconds, memory in KB."""

import os
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, all its threads.

    schedstat counts nanoseconds where stat counts ticks of 10 ms. Threads that have ended are missing from it, but
    these servers' pools stay.
    """
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def memory(pid: int) -> int:
    """Return what a process holds (PSS): pages that several processes map are shared out among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
