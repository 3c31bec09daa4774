"""What a process has cost so far, from /proc: CPU time in nanoseconds, memory in KB."""

import os
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """KB. `pss` shares pages out among the processes that map them; `rss` counts them whole."""

    pss: int
    rss: int


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, all its threads.

    schedstat counts nanoseconds where stat counts ticks of 10 ms. Threads that have ended are missing from it, but
    these servers' pools stay.
    """
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def memory(pid: int) -> Memory:
    """Return what a process holds."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0])
    return Memory(fields["Pss"], fields["Rss"])
