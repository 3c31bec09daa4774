"""What commands share: the settings as the server would read them, options, examples in a help, and outside text."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from mintflow_realtime.settings.settings import PublisherSettings, Settings, overview

_Command = TypeVar("_Command", bound=Callable[..., Any])
# C0 but for tab and new line, DEL and C1: what a terminal would obey.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _WithExamples(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


class ExampleCommand(_WithExamples):
    """A command whose epilog is printed line by line, as its examples were written."""


class ExampleGroup(_WithExamples, click.Group):
    """A group whose epilog is printed so."""


def app_config() -> Mapping[str, Any]:
    """Return the configuration of the application under `flask mintflow`, else nothing."""
    if "flask.cli" not in sys.modules:
        return {}
    from flask.cli import ScriptInfo

    context = click.get_current_context(silent=True)
    info = context.find_object(ScriptInfo) if context else None
    return info.load_app().config if info else {}


def load_settings() -> Settings:
    """Return the settings that the server would have here. Raises SettingError."""
    return Settings.load(app_config(), os.environ)


def load_publisher_settings() -> PublisherSettings:
    """Return those that a publisher has here: nothing else needs to be right. Raises SettingError."""
    return PublisherSettings.load(app_config(), os.environ)


def visible(text: str, indent: str = "    ") -> str:
    """Return `text` of somebody else without what a terminal obeys; further lines are indented."""
    text = text.replace("\r\n", "\n")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).replace("\n", f"\n{indent}")


def tenant_option(command: _Command) -> _Command:
    """Add `--tenant`, by default the first one of clients without a token."""
    return click.option(
        "--tenant", "-t", envvar="REALTIME_TENANT", metavar="ID", help="Default: the first of SOCKET_ANONYMOUS_TENANTS."
    )(command)


def tenant_of(tenant: str | None) -> str:
    """Return the tenant that was named, else the one that clients without a token are in."""
    if tenant:
        return tenant
    rows = {row.name: row.shown for row in overview(app_config(), os.environ)}
    return rows["SOCKET_ANONYMOUS_TENANTS"].partition(",")[0].strip()
