"""`mintflow watch`: progress of runs: bars in a terminal, a line for each change where it is piped on."""

import sys
import time

import click

from mintflow_realtime.cli.away import Patience
from mintflow_realtime.cli.context import ExampleCommand, tenant_of, tenant_option
from mintflow_realtime.cli.interrupt import Interrupt, until_interrupted
from mintflow_realtime.cli.reading import run_source, source_options
from mintflow_realtime.cli.run_board import RunBoard
from mintflow_realtime.cli.run_screen import RunScreen
from mintflow_realtime.cli.sources.base import RunId, RunSource

_EXAMPLES = """
$ mintflow watch                       all runs, those that have ended for a while
$ mintflow watch r-1                   one run with its nodes, until it ends
$ mintflow watch r-1 --flow invoices   where several flows have a run r-1
$ mintflow watch r-1 && ./deploy.sh    ends with 0 where the run has completed, with 1 where not
$ mintflow watch --url https://realtime.example.com --token "$(mintflow token -u ann -t acme)"
"""
# How often a terminal is drawn anew, since durations go on.
DRAW_SECONDS = 0.5


@click.command("watch", short_help="Follow runs, as bars.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.argument("run", required=False)
@tenant_option
@click.option("--flow", "-f", metavar="ID", help="The run's flow. Default: the one that had such a run last.")
@source_options
def command(run: str | None, tenant: str | None, flow: str | None, url: str | None, token: str | None) -> None:
    """Show how runs get on: all of them, or RUN with its nodes until it ends.

    Read from the Redis of the settings; with --url from a server, as any client, which tells of runs that start from
    then on.
    """
    if flow and not run:
        raise click.UsageError("--flow goes with a run.")
    source = run_source(url, token, tenant if url else tenant_of(tenant))
    terminal = sys.stdout.isatty()
    board = RunBoard()
    screen = RunScreen(whole=run is not None, terminal=terminal)
    with until_interrupted(source) as interrupt:
        try:
            ended = _follow(source, board, screen, (flow, run) if run else None, interrupt)
        finally:
            screen.leave()
    raise click.exceptions.Exit(0 if ended == "completed" else 1)


def _follow(
    source: RunSource, board: RunBoard, screen: RunScreen, wanted: RunId | None, interrupt: Interrupt
) -> str | None:
    """Show what happens; return the status in which the one run that is wanted has ended, None for Ctrl-C."""
    patience = Patience()
    began = False
    while not interrupt.pressed:
        with patience.first() if not began else patience:
            if wanted and not began:
                source.changed(0)
                runs = {wanted}
            else:
                runs = source.changed(DRAW_SECONDS if not wanted or board.has(wanted[1]) else 2 * DRAW_SECONDS)
                runs = {wanted} if wanted and any(one[1] == wanted[1] for one in runs) else set() if wanted else runs
            for one in runs:
                found = source.read(one)
                if found is not None:
                    board.put(found, time.time())
            patience.reached()
            if wanted and not began and not board.has(wanted[1]):
                click.echo(f"There is no run {wanted[1]} yet. Waiting.", err=True)
            began = True
        screen.show(board, time.time())
        if wanted and (status := board.ended(wanted[1])):
            return status
    return None
