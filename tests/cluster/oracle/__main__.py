"""`python -m tests.cluster.oracle [--short] [--seed N]`: run the load with its faults and print the table.

`--only METHOD,METHOD --times N` narrows the faults, for one that was found and is to be found again;
`--judge DIRECTORY` judges once more what ORACLE_KEEP kept.
"""

import argparse
import secrets
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.cluster.oracle.faults import LONG, SHORT
from tests.cluster.oracle.model import Outcome, directory, run
from tests.cluster.oracle.report import table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--only", default="")
    parser.add_argument("--times", type=int)
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    if options.judge:
        print(table(Outcome.load(options.judge)))
        return 0
    print(f"seed {options.seed}", flush=True)
    # What was started is stopped, also when this is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with directory() as where:
        kinds = SHORT if options.short else LONG
        if options.only:
            kinds = tuple(kind for kind in kinds if kind.method in options.only.split(","))
        if options.times:
            kinds = tuple(replace(kind, times=options.times) for kind in kinds)
        outcome = run(where, kinds, options.seed)
        print(table(outcome))
    return bool(outcome.violations or outcome.complaints)


if __name__ == "__main__":
    raise SystemExit(main())
