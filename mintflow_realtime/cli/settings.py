"""`mintflow settings`: the table of settings, what each is here, and from where; secrets are hidden."""

import json
import os

import click

from mintflow_realtime.cli.context import ExampleCommand, app_config, load_settings, visible
from mintflow_realtime.settings.settings import Row, overview
from mintflow_realtime.settings.sources import DEFAULT
from mintflow_realtime.settings.table import BY_NAME

# Longer values are shown whole, and push their origin out of its column.
MAX_COLUMN = 40
_EXAMPLES = """
$ mintflow settings                  what is set, and what is in force otherwise
$ mintflow settings --set            only what is set
$ mintflow settings SOCKET           only names with SOCKET in them
$ mintflow settings --meaning        with what each one means
$ mintflow settings --json | jq -r '.[] | select(.origin != "default") | .name'
$ flask --app shop mintflow settings
"""


@click.command(
    "settings", short_help="Show all settings, and where each comes from.", cls=ExampleCommand, epilog=_EXAMPLES
)
@click.argument("text", required=False)
@click.option("--set", "only_set", is_flag=True, help="Only those that are set.")
@click.option("--meaning", is_flag=True, help="With type, default and meaning of each.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list of objects.")
def command(text: str | None, only_set: bool, meaning: bool, as_json: bool) -> None:
    """Show every setting: its value, and where it comes from. Secrets are hidden.

    Ends with 1 where a setting can't be used, after the table.
    """
    config = app_config()
    rows = overview(config, os.environ)
    rows = [row for row in rows if (text or "").upper() in row.name and (not only_set or row.origin != DEFAULT)]
    if as_json:
        click.echo(json.dumps([_whole(row) for row in rows], indent=2, ensure_ascii=False))
    else:
        for line in _table(rows, meaning):
            click.echo(line)
    load_settings()


def _whole(row: Row) -> dict[str, str]:
    setting = BY_NAME[row.name]
    more = {"type": setting.type, "default": setting.default, "meaning": setting.meaning}
    return {"name": row.name, "value": row.shown, "origin": row.origin, **more}


def _table(rows: list[Row], meaning: bool) -> list[str]:
    names = max((len(row.name) for row in rows), default=0)
    values = min(MAX_COLUMN, max((len(row.shown) for row in rows), default=0))
    lines = []
    for row in rows:
        value = visible(row.shown) or "–"
        line = f"{row.name:<{names}}  {value:<{values}}  {row.origin}"
        lines.append(line if row.origin == DEFAULT else click.style(line, bold=True))
        if meaning:
            setting = BY_NAME[row.name]
            default = f", default {setting.default}" if setting.default else ""
            lines.append(click.style(f"    {setting.meaning} ({setting.type}{default})", dim=True))
    return lines
