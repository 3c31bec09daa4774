"""`mintflow exec`: a command as a run of a flow, from a shell or a crontab."""

import os
import signal
import sys
from typing import Any

import click

from mintflow_realtime.cli.context import (
    ExampleCommand,
    app_config,
    load_publisher_settings,
    tenant_of,
    tenant_option,
    visible,
)
from mintflow_realtime.cli.durations import DURATION

NOT_FOUND, NOT_RUN = 127, 126
_EXAMPLES = """
$ mintflow exec --flow nightly -- ./job.sh --all
$ mintflow exec --flow nightly --run "$(date +%F)" --node load --tag cron --tenant acme -- ./load.sh
$ mintflow exec --flow build --name "make check" --lease 1m --kill-after 30 -- make check
"""
# Fields of the wire whose option has another name.
_OPTIONS = {"flowId": "flow", "runId": "run", "nodeId": "node", "tags": "tag"}


@click.command(
    "exec",
    short_help="Run a command as a run of a flow.",
    cls=ExampleCommand,
    epilog=_EXAMPLES,
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command_line", metavar="COMMAND [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@tenant_option
@click.option("--flow", "-f", required=True, metavar="ID")
@click.option("--run", "-r", metavar="ID", help="By default a new one.")
@click.option("--node", "-n", metavar="ID", help="The command is this node of the run.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="May be given repeatedly.")
@click.option("--name", metavar="TEXT", help="The name of the run that viewers see.")
@click.option("--lease", type=DURATION, default="30s", show_default=True, help="After a kill -9, lost after this long.")
@click.option(
    "--kill-after", type=DURATION, default="10s", show_default=True, help="From a cancel's SIGTERM to SIGKILL."
)
def command(
    command_line: tuple[str, ...],
    tenant: str | None,
    flow: str,
    run: str | None,
    node: str | None,
    tags: tuple[str, ...],
    name: str | None,
    lease: float,
    kill_after: float,
) -> None:
    """Run COMMAND; its output becomes log records of the run, its exit code the run's end and this command's own.

    Output is passed through unchanged. SIGTERM, SIGINT and SIGHUP go to the command. Without Redis it runs all the
    same.
    """
    from mintflow_realtime.cli.job.process import Process
    from mintflow_realtime.cli.job.telling import Telling
    from mintflow_realtime.emitter import Emitter
    from mintflow_realtime.protocol.errors import InvalidPayload
    from mintflow_realtime.protocol.ids import check_id

    tenant = tenant_of(tenant)
    emit = Emitter(settings=load_publisher_settings(), config=app_config())
    try:
        check_id(node or "-", "$.nodeId")
        scope = emit.run(tenant, flow, run, lease=lease, name=name, tags=list(tags) or None)
    except InvalidPayload as error:
        field = str(error.details["path"]).removeprefix("$.").partition("[")[0]
        raise click.UsageError(f"--{_OPTIONS.get(field, field)}: {error.message}") from None
    process = Process()
    telling = Telling(emit, tenant, scope, node, process, kill_after)
    code, failure = _run(command_line, process, telling)
    untold = telling.end(failure)
    if untold is not None:
        click.echo(visible(f"mintflow: not all of run {scope.run_id} could be told: {untold}"), err=True)
        # What still tries would try on at the end of Python.
        sys.stderr.flush()
        os._exit(code)
    emit.close()
    raise click.exceptions.Exit(code)


def _run(command_line: tuple[str, ...], process: Any, telling: Any) -> tuple[int, str | None]:
    """Return the exit code as a shell has it, and what failed."""
    from mintflow_realtime.cli.job.output import Output

    try:
        sources = process.start(command_line)
    except OSError as error:
        telling.start()
        is_missing = isinstance(error, FileNotFoundError)
        failure = f"{command_line[0]}: {'command not found' if is_missing else error.strerror}"
        click.echo(visible(f"mintflow: {failure}"), err=True)
        return (NOT_FOUND if is_missing else NOT_RUN), failure
    telling.start()
    outputs = []
    for stream, source, target in zip(("stdout", "stderr"), sources, (1, 2), strict=True):

        def tell(lines: Any, stream: str = stream) -> None:
            telling.lines(stream, lines)

        outputs.append(Output(source, target, process.ended, tell, stream))
        outputs[-1].start()
    code = process.wait()
    for output in outputs:
        output.join()
    if code == 0:
        return 0, None
    said = f": {telling.last_error}" if telling.last_error else ""
    if code < 0:
        return 128 - code, f"killed by {_signal_name(-code)}{said}"
    return code, f"exit code {code}{said}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
