"""A process that publishes: `python -P bench/servers/ours_emitter.py MODULE REDIS_URL`, MODULE has `Emitter`.

Reads lines `WAY COUNT`, does that many that way, and answers each line with one. Imports nothing of the bench, so
that it runs with whichever checkout is on the path. Each log is full before the first answer: what an append drops is
part of what it costs.
"""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

TENANT, AGING = "acme", "aging"
# Full soon. The settings of the older checkouts are read from the environment alone.
SIZES = {"RECOVERY_MAX_EVENTS": "1000", "LOGS_MAX": "5000"}
# Some thousand events are within it, and each publish finds one that is not.
AGED = {"RECOVERY_WINDOW": "1", "REDIS_PREFIX": "aging"}


def ways(emit: Any, aging: Any, package: str) -> dict[str, Callable[[int], object]]:
    """Return what is done, by name; each takes a running number."""
    logs = importlib.import_module(f"{package}protocol.logs")
    principal = importlib.import_module(f"{package}auth.principal").Principal.system(TENANT)
    history, by_flow = logs.LogHistory(), logs.FilterLogs(flow_id="flow-3")
    data = {"flowId": "f", "status": "running", "pad": "x" * 100}

    def page(number: int) -> object:
        # As who was away for 300 events and has their offset.
        return emit.publisher.page(TENANT, "/board", emit.publisher.head(TENANT, "/board")[0].number - 300)

    return {
        "event": lambda number: emit.publish(TENANT, "/board", "event", {**data, "number": number}, room="all"),
        "aging": lambda number: aging.publish(TENANT, "/board", "event", {**data, "number": number}, room="all"),
        "run": lambda number: emit.flows.progress(TENANT, "flow-1", "run-1", number % 100, data=data),
        "log": lambda number: emit.logs.append(
            TENANT, message=f"Fetched {number} rows from warehouse", flow_id="flow-1", run_id="run-1", metadata=data
        ),
        "workspace": lambda number: emit.workspaces.update(TENANT, "board-1", {f"shape-{number % 20}": data}),
        "history": lambda number: emit.logs.read(principal, history),
        "filter": lambda number: emit.logs.read(principal, by_flow),
        "page": page,
        "read run": lambda number: emit.flows.read(principal, "flow-1", "run-1", 0),
    }


def fill(emit: Any, by_name: dict[str, Callable[[int], object]]) -> None:
    """Bring every log to its cap."""
    for number in range(1100):
        by_name["event"](number)
    for number in range(20):
        by_name["workspace"](number)
    # One by one, as the oldest checkouts know nothing else.
    for number in range(5500):
        emit.logs.append(TENANT, message=f"Step {number}", flow_id=f"flow-{number % 10}", run_id=f"run-{number % 100}")
    for number in range(1100):
        by_name["run"](number)


def main() -> None:
    module, url = sys.argv[1:3]
    make = importlib.import_module(module).Emitter
    os.environ.update(SIZES)
    emit = make(url, **_settings(module))
    os.environ.update(AGED)
    with emit, make(url, **_settings(module)) as aging:
        by_name = ways(emit, aging, "" if module == "emitter" else "mintflow_realtime.")
        fill(emit, by_name)
        for line in sys.stdin:
            way, count = line.strip().rsplit(" ", 1)
            act = by_name[way]
            for number in range(int(count)):
                act(number)
            print("done", flush=True)


def _settings(module: str) -> dict[str, Any]:
    if module != "emitter":
        return {}
    # Before the package, an emitter with a URL read no other setting.
    settings: Any = importlib.import_module("config").Settings.from_env({**os.environ, "REDIS_URL": sys.argv[2]})
    return {"settings": settings}


if __name__ == "__main__":
    main()
