"""The group of all commands: what may fail ends in one sentence, and colours are for terminals alone."""

import logging
import os
import sys
from importlib import import_module
from typing import Any

import click

from mintflow_realtime.cli.extras import NEEDS
from mintflow_realtime.protocol.errors import RealtimeError
from mintflow_realtime.settings.sources import SettingError

# In the order of a first day with it. Each is a module beside this one, loaded when it is asked for: every `flask`
# command loads this group.
COMMANDS = (
    "serve",
    "check",
    "settings",
    "token",
    "ticket",
    "console",
    "publish",
    "exec",
    "tail",
    "watch",
    "connections",
    "why",
    "version",
)


class CommandGroup(click.Group):
    """Finds commands by their module, and turns what the project raises into `Error: …` and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = import_module(f"mintflow_realtime.cli.{cmd_name}")
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        # What is wrong is said once, by the error that ends the command: not by a log without a handler as well.
        logging.getLogger("mintflow").addHandler(logging.NullHandler())
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except RealtimeError as error:
            raise click.ClickException(str(error)) from error
        except SettingError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        except BrokenPipeError:
            # `mintflow tail | head`: who reads has enough. Python would complain when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None


def _missing(error: ModuleNotFoundError) -> Exception:
    """Return the sentence for what `[server]` brings, and `error` itself for what it doesn't."""
    top = (error.name or "").partition(".")[0]
    return click.ClickException(NEEDS.format(top)) if top in _OF_SERVER else error


_OF_SERVER = frozenset({"flask", "gevent", "geventwebsocket", "gunicorn", "itsdangerous", "jwt", "socketio", "wsproto"})


@click.group(
    name="mintflow",
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
def commands() -> None:
    """Serve, look into and publish to MintFlow Realtime.

    Settings are read as the server reads them: the Flask application's configuration under `flask mintflow`,
    then the environment.
    """
