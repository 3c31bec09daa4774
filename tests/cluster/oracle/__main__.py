"""`python -m tests.cluster.oracle [--short] [--seed N]`: run the load with its faults and print the table.

`--judge DIRECTORY` judges once more what ORACLE_KEEP kept.
"""

import argparse
import secrets
from pathlib import Path

from tests.cluster.oracle.faults import LONG, SHORT
from tests.cluster.oracle.model import Outcome, directory, run
from tests.cluster.oracle.report import table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    if options.judge:
        print(table(Outcome.load(options.judge)))
        return 0
    print(f"seed {options.seed}", flush=True)
    with directory() as where:
        outcome = run(where, SHORT if options.short else LONG, options.seed)
        print(table(outcome))
    return bool(outcome.violations or outcome.complaints)


if __name__ == "__main__":
    raise SystemExit(main())
