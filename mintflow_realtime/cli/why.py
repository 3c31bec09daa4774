"""`mintflow why`: what became of an event for one user, a sentence for each of its connections."""

import json
from typing import Any

import click

from mintflow_realtime.cli.client.errors import ClientError
from mintflow_realtime.cli.context import ExampleCommand, load_publisher_settings, tenant_of, tenant_option, visible
from mintflow_realtime.cli.sources.nodes import AskedNodes, AskedServer, NodeSource, Row

_EXAMPLES = """
$ mintflow why 3f1b0a52c44de901-42 --user ann --tenant acme
$ mintflow why 3f1b0a52c44de901-42 --user ann --namespace /board --json
$ mintflow why 3f1b0a52c44de901-42 --user ann --url https://realtime.example.com --token "$TOKEN"
"""


@click.command("why", short_help="Say why a user got an event, or didn't.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.argument("offset")
@click.option("--user", "-u", required=True, metavar="ID", help="Whose connections.")
@tenant_option
@click.option("--namespace", metavar="NAME", help="Of your own; the built-in ones are looked through without it.")
@click.option("--json", "as_json", is_flag=True, help="As the wire has it.")
@click.option("--url", metavar="URL", help="Ask this server instead of the nodes, through Redis.")
@click.option("--token", metavar="TEXT", envvar="REALTIME_TOKEN", help="With --url: one with the scope admin.")
def command(
    offset: str,
    user: str,
    tenant: str | None,
    namespace: str | None,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Say what became of the event at OFFSET for a user.

    OFFSET is what a publish returned, and what events end with for clients that recover. Nodes know an hour, the log
    what RECOVERY_WINDOW and its companions keep.
    """
    source: NodeSource = AskedServer(url, token) if url else AskedNodes(load_publisher_settings())
    query: dict[str, Any] = {"offset": offset, "userId": user}
    if tenant or not url:
        query["tenant"] = tenant_of(tenant)
    if namespace:
        query["namespace"] = namespace
    try:
        found = source.get("/why", query)
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, separators=(",", ":")))
    else:
        _show(found)


def _show(found: Row) -> None:
    click.echo(f"{found['offset']}  {visible(found['name'])} in {visible(found['namespace'])}")
    click.echo(f"  numbered at {found['numberedAt']}")
    click.echo(f"  to {visible(', '.join(found['rooms']))}")
    for node in found["nodes"]:
        click.echo(f"  heard by {visible(node['nodeId'])} at {node['heardAt']}")
    for node in found["unanswered"]:
        click.echo(f"  {visible(node)} gave no answer")
    for one in found["connections"]:
        place = " on ".join(visible(text) for text in (one["sid"], one["nodeId"]) if text)
        click.echo(f"{place + ': ' if place else ''}{visible(one['sentence'])}")
