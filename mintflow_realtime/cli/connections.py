"""`mintflow connections`: who is connected, on all nodes; and close one, or a user's."""

import json
from typing import Any

import click

from mintflow_realtime.cli.client.errors import ClientError
from mintflow_realtime.cli.context import ExampleCommand, load_publisher_settings, visible
from mintflow_realtime.cli.sources.nodes import AskedNodes, AskedServer, NodeSource, Row, pages

_EXAMPLES = """
$ mintflow connections                                of all tenants
$ mintflow connections --tenant acme --user ann
$ mintflow connections --room acme:run:r-1 --json | jq -r .userId
$ mintflow connections --nodes                        the nodes that they are connected to
$ mintflow connections --close 5c1ffa24wHdbNnUuBQ2kZ3Yp
$ mintflow connections --tenant acme --user ann --close-all
$ mintflow connections --url https://realtime.example.com --token "$(mintflow token -u ann -t acme)"
"""
_PAGE = 500


@click.command("connections", short_help="Show who is connected.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.option("--tenant", "-t", metavar="ID", help="Only of this tenant.")
@click.option("--user", "-u", metavar="ID", help="Only of this user.")
@click.option("--room", metavar="NAME", help="Only those in this room, named as --json shows it.")
@click.option("--nodes", is_flag=True, help="Show the nodes instead.")
@click.option("--close", metavar="SID", help="Disconnect this one; it stays away.")
@click.option("--close-all", is_flag=True, help="Disconnect all of --user's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the wire has it.")
@click.option("--url", metavar="URL", help="Ask this server instead of the nodes, through Redis.")
@click.option("--token", metavar="TEXT", envvar="REALTIME_TOKEN", help="With --url: who asks.")
def command(
    tenant: str | None,
    user: str | None,
    room: str | None,
    nodes: bool,
    close: str | None,
    close_all: bool,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Show the connections of all nodes, or close some.

    The nodes are asked through the Redis of the settings; with --url a server is, which shows what the token permits.
    """
    source: NodeSource = AskedServer(url, token) if url else AskedNodes(load_publisher_settings())
    given = {"tenant": tenant, "userId": user, "room": room}
    query: dict[str, Any] = {name: value for name, value in given.items() if value}
    try:
        if close or close_all:
            if close_all and not user:
                raise click.UsageError("--close-all needs --user.")
            query.pop("room", None)
            count = source.close(close, query)
            click.echo(f"{count} {'connection' if count == 1 else 'connections'} closed.")
        elif nodes:
            _show_rows(source.get("/nodes", {})["nodes"], as_json, _NODE)
        else:
            for page in pages(source, {**query, "limit": _PAGE}):
                _show_rows(
                    [_named(row) for row in page["connections"]] if not as_json else page["connections"],
                    as_json,
                    _CONNECTION,
                )
                for node in page["unanswered"]:
                    click.echo(f"The node {visible(node)} gave no answer; its connections are missing.", err=True)
    except ClientError as error:
        raise click.ClickException(str(error)) from None


_CONNECTION = ("sid", "nodeId", "tenant", "userId", "transport", "address", "since", "outboxBytes", "behind", "in")
_NODE = (
    "nodeId", "host", "pid", "version", "since", "connections", "cpuPercent", "memoryBytes", "eventsPerSecond",
    "redisLatencyMs", "draining",
)  # fmt: skip


def _named(row: Row) -> Row:
    return {**row, "in": " ".join(row["namespaces"])}


def _show_rows(rows: list[Row], as_json: bool, names: tuple[str, ...]) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        return
    table = [names, *(tuple(_text(row.get(name)) for name in names) for row in rows)]
    widths = [max(len(line[place]) for line in table) for place in range(len(names))]
    for line in table:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    return "–" if value is None else visible(str(value))
