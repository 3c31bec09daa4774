"""What importing us costs beside `import redis, msgspec`, which a process needs anyway: `python -m bench.imports`.

Each round runs every import once in a process of its own, which one comes first changes with the round, and CPU is that
of the whole process, the interpreter's start included. A ratio is the median of the rounds' own ratios. Fails above the
target, and where an import loads what only a server needs.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = 1.3
BASE = "import redis, msgspec"
OURS = ("import mintflow_realtime", "from mintflow_realtime import Emitter")
IMPORTS = ("pass", BASE, *OURS)
# What serves, and what is slow to load, by the names that they are imported by.
HEAVY = (
    "flask",
    "werkzeug",
    "jinja2",
    "gevent",
    "greenlet",
    "gunicorn",
    "socketio",
    "engineio",
    "openai",
    "jwt",
    "click",
)


def cpu_seconds(statement: str) -> float:
    """Return the CPU that a new interpreter takes for `statement`. Raises CalledProcessError where it fails."""
    process = subprocess.Popen([sys.executable, "-c", statement], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, statement)
    return used.ru_utime + used.ru_stime


def heavy_modules(statement: str) -> list[str]:
    """Return what of HEAVY `statement` loads."""
    script = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.split()


def measure(rounds: int) -> dict[str, list[float]]:
    """Return {import: its seconds of CPU in each round}."""
    for statement in IMPORTS:
        cpu_seconds(statement)  # compiles, and fills the page cache
    spent: dict[str, list[float]] = {statement: [] for statement in IMPORTS}
    for number in range(rounds):
        first = number % len(IMPORTS)
        for statement in IMPORTS[first:] + IMPORTS[:first]:
            spent[statement].append(cpu_seconds(statement))
    return spent


def ratio(spent: dict[str, list[float]], statement: str) -> float:
    """Return what `statement` costs of BASE, the median of all rounds."""
    return statistics.median(ours / base for ours, base in zip(spent[statement], spent[BASE], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    rounds = parser.parse_args().rounds
    spent = measure(rounds)
    print(f"Python {sys.version.split()[0]}, {rounds} rounds, CPU of a whole process")
    faults = []
    for statement in IMPORTS:
        share = ratio(spent, statement)
        print(f"{statement:40}{statistics.median(spent[statement]) * 1e3:8.1f} ms{share:8.2f}")
        if statement in OURS:
            if share > TARGET:
                faults.append(f"{statement} costs {share:.2f} of {BASE}; the target is {TARGET}")
            if loaded := heavy_modules(statement):
                faults.append(f"{statement} loads {', '.join(loaded)}")
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
