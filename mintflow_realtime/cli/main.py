"""Where the entry points lead. Imports nothing that the bare package lacks: it then says what to install."""

import sys
from typing import Any

from mintflow_realtime.cli.extras import NEEDS


def main() -> None:
    """Run `mintflow`; exit with 1 and one sentence where `[server]` is missing."""
    try:
        from mintflow_realtime.cli.group import commands
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mintflow_realtime"):
            raise
        print(f"mintflow: {NEEDS.format(error.name)}", file=sys.stderr)
        sys.exit(1)
    commands(prog_name="mintflow")


def __getattr__(name: str) -> Any:
    # Flask's plugins are loaded by attribute; it has click, so nothing can be missing there.
    if name != "flask_group":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mintflow_realtime.cli.group import commands

    return commands
