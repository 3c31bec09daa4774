"""`mintflow publish`: log records, events of runs and events of one's own, from a shell."""

import sys
from typing import Any

import click

from mintflow_realtime.cli.context import (
    ExampleCommand,
    ExampleGroup,
    app_config,
    load_publisher_settings,
    tenant_of,
    tenant_option,
)
from mintflow_realtime.cli.json_text import JSON_OBJECT, JSON_VALUE
from mintflow_realtime.cli.log_pipe import publish_lines
from mintflow_realtime.protocol.envelope import Published
from mintflow_realtime.protocol.logs import LEVELS
from mintflow_realtime.protocol.run_events import EVENT_TYPES

_LOG = """
$ mintflow publish log "42 invoices read" --flow invoices --run r-1
$ mintflow publish log "disk full" --level error --metadata '{"disk": "/data"}' --tenant acme
$ ./nightly.sh 2>&1 | mintflow publish log - --flow nightly --run "$(date +%F)" --tee
"""
_EVENT = """
$ mintflow publish event flow_started --flow invoices --run r-1 --data '{"trigger": "cron"}'
$ mintflow publish event node_started --flow invoices --run r-1 --node parse
$ mintflow publish event flow_progress --flow invoices --run r-1 --progress 40
$ mintflow publish event flow_failed --flow invoices --run r-1 --error "disk full"
"""
_CUSTOM = """
$ mintflow publish custom /board moved '{"card": 7}' --tenant acme
$ mintflow publish custom /board moved '{"card": 7}' --room sprint-12
"""
_key_option = click.option(
    "--idempotency-key", metavar="TEXT", help="A repeat with the same key within ten minutes publishes nothing more."
)


@click.group(
    "publish",
    short_help="Publish log records and events.",
    cls=ExampleGroup,
    epilog=_LOG + _EVENT.lstrip() + _CUSTOM.lstrip(),
)
def command() -> None:
    """Publish a log record, an event of a run, or an event of your own, through the Redis of the settings."""


@command.command("log", cls=ExampleCommand, epilog=_LOG)
@click.argument("message")
@tenant_option
@click.option("--flow", "-f", metavar="ID")
@click.option("--run", "-r", metavar="ID")
@click.option("--node", "-n", metavar="ID")
@click.option("--level", "-l", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True)
@click.option("--metadata", type=JSON_OBJECT, metavar="JSON", help="An object.")
@click.option("--tee", is_flag=True, help="With -: print the lines too.")
@_key_option
def log(
    message: str,
    tenant: str | None,
    flow: str | None,
    run: str | None,
    node: str | None,
    level: str,
    metadata: dict[str, Any] | None,
    tee: bool,
    idempotency_key: str | None,
) -> None:
    """Publish MESSAGE as a log record, or each line of standard input where it is "-".

    Lines are published as they come, and wait up to a minute for a Redis that is away.
    """
    fields = {"flow_id": flow, "run_id": run, "node_id": node, "level": level, "metadata": metadata}
    with _emitter() as emitter:
        if message != "-":
            _told(emitter.logs.append(tenant_of(tenant), message=message, idempotency_key=idempotency_key, **fields))
            return
        if idempotency_key:
            raise click.UsageError("--idempotency-key is for a single record.")
        count = publish_lines(emitter.logs, tenant_of(tenant), fields, sys.stdin.buffer, tee)
    click.echo(f"{count} {'record' if count == 1 else 'records'} published.", err=True)


@command.command("event", cls=ExampleCommand, epilog=_EVENT)
@click.argument("event_type", metavar="TYPE", type=click.Choice(EVENT_TYPES))
@tenant_option
@click.option("--flow", "-f", required=True, metavar="ID")
@click.option("--run", "-r", required=True, metavar="ID")
@click.option("--node", "-n", metavar="ID", help="For events of a node.")
@click.option("--progress", type=float, metavar="PERCENT", help="For flow_progress.")
@click.option("--error", metavar="TEXT", help="For flow_failed and node_failed.")
@click.option("--data", type=JSON_OBJECT, metavar="JSON", help="An object, which joins the event's payload.")
@_key_option
def event(
    event_type: str,
    tenant: str | None,
    flow: str,
    run: str,
    node: str | None,
    progress: float | None,
    error: str | None,
    data: dict[str, Any] | None,
    idempotency_key: str | None,
) -> None:
    """Publish an event of a run. TYPE is one of flow_queued, flow_started, flow_waiting, flow_progress, flow_completed,
    flow_failed, flow_cancelling, flow_cancelled, flow_lost, node_started, node_waiting, node_completed, node_failed,
    node_skipped and node_cancelled."""
    of_node = event_type.startswith("node_")
    wanted = {"node": of_node, "progress": event_type == "flow_progress", "error": event_type.endswith("_failed")}
    given = {"node": node, "progress": progress, "error": error}
    for name, value in given.items():
        if value is None and wanted[name]:
            raise click.UsageError(f"{event_type} needs --{name}.")
        if value is not None and not wanted[name]:
            raise click.UsageError(f"{event_type} takes no --{name}.")
    own = {name: value for name, value in given.items() if value is not None and name != "node"}
    with _emitter() as emitter:
        act = getattr(emitter.flows, event_type if of_node else event_type.removeprefix("flow_"))
        places = (tenant_of(tenant), flow, run, node) if of_node else (tenant_of(tenant), flow, run)
        _told(act(*places, **own, data=data, idempotency_key=idempotency_key))


@command.command("custom", cls=ExampleCommand, epilog=_CUSTOM)
@click.argument("namespace")
@click.argument("name")
@click.argument("data", type=JSON_VALUE, required=False)
@tenant_option
@click.option("--room", metavar="ID", help="Only to those in this room.")
@_key_option
def custom(
    namespace: str, name: str, data: Any, tenant: str | None, room: str | None, idempotency_key: str | None
) -> None:
    """Publish the event NAME with DATA (JSON) to a tenant's clients in a NAMESPACE of the application's own."""
    with _emitter() as emitter:
        _told(emitter.publish(tenant_of(tenant), namespace, name, data, room, idempotency_key))


def _emitter() -> Any:
    from mintflow_realtime.emitter import Emitter

    return Emitter(settings=load_publisher_settings(), config=app_config())


def _told(published: Published) -> None:
    click.echo(f"{published.offset}{' (published before, by the same key)' if published.repeated else ''}")
