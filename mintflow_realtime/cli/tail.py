"""`mintflow tail`: log records as they come, over restarts of the server and of Redis."""

import json
import sys
from typing import Any

import click

from mintflow_realtime.cli.away import Patience
from mintflow_realtime.cli.context import ExampleCommand, tenant_of, tenant_option
from mintflow_realtime.cli.following import Follower
from mintflow_realtime.cli.interrupt import until_interrupted
from mintflow_realtime.cli.log_lines import LogLines
from mintflow_realtime.cli.reading import log_source, source_options
from mintflow_realtime.cli.sources.base import Record
from mintflow_realtime.protocol.logs import LEVELS

_EXAMPLES = """
$ mintflow tail                                    the last 10 records, then each new one
$ mintflow tail --flow invoices --level warn       of one flow, warnings and errors
$ mintflow tail --run r-1 --history 1000 --no-follow
$ mintflow tail --text "timed out" --json | jq -r .message
$ mintflow tail --url https://realtime.example.com --token "$(mintflow token -u ann -t acme)"
"""
# A poll that asks in vain, where no event has come either.
LOOK_AGAIN_SECONDS = 5.0


@click.command("tail", short_help="Follow the logs.", cls=ExampleCommand, epilog=_EXAMPLES)
@tenant_option
@click.option("--flow", "-f", metavar="ID", help="Only of this flow.")
@click.option("--run", "-r", metavar="ID", help="Only of this run.")
@click.option("--node", "-n", metavar="ID", help="Only of this node.")
@click.option("--level", "-l", type=click.Choice(LEVELS, case_sensitive=False), help="This level and those above it.")
@click.option("--text", metavar="TEXT", help="Only with this in the message; case doesn't matter.")
@click.option("--history", type=click.IntRange(0, 100_000), default=10, show_default=True, help="Older ones first.")
@click.option("--follow/--no-follow", default=True, help="Go on with new ones, or end after the history.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the wire has it.")
@source_options
def command(
    tenant: str | None,
    flow: str | None,
    run: str | None,
    node: str | None,
    level: str | None,
    text: str | None,
    history: int,
    follow: bool,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Show log records as they come.

    Read from the Redis of the settings, which needs no server and outlives its restarts; with --url from a server, as
    any client. Either way each record is shown once, over restarts of the server and of Redis too.
    """
    wanted = {"flowId": flow, "runId": run, "nodeId": node, "minLevel": level, "search": text}
    criteria = {name: value for name, value in wanted.items() if value}
    source = log_source(url, token, tenant if url else tenant_of(tenant), criteria)
    follower = Follower(source, criteria)
    lines = LogLines(terminal=sys.stdout.isatty(), known=frozenset(criteria))
    patience = Patience()
    with until_interrupted(source) as interrupt:
        with patience.first():
            _show(follower.begin(history), lines, as_json)
        while follow and not interrupt.pressed:
            with patience:
                records = follower.new()
                patience.reached()
                if follower.skipped:
                    click.echo("Too much at once: older records were left out here; see --history.", err=True)
                _show(records, lines, as_json)
                follower.wait(LOOK_AGAIN_SECONDS)


def _show(records: list[Record], lines: LogLines, as_json: bool) -> None:
    for record in records:
        click.echo(_json(record) if as_json else lines.text(record))


def _json(record: Record) -> Any:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
