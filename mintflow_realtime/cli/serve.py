"""`mintflow serve`: gunicorn with this project's configuration, in this very process."""

import os
import sys
from typing import Any

import click

from mintflow_realtime.cli.context import ExampleCommand, load_settings

_EXAMPLES = """
$ mintflow serve                              the server alone, on PORT (3000)
$ mintflow serve shop:application             your application: module and variable
$ mintflow serve "shop:create_app()"          or its factory
$ mintflow serve shop:app --reload            while developing: starts anew when a file changes
$ mintflow serve shop:app --workers 4 --bind 127.0.0.1:8000
$ mintflow serve shop:app -- --access-logfile -    what follows -- is gunicorn's
$ flask --app shop mintflow serve --reload
"""
_DEFAULT = "mintflow_realtime.app.default:create_app()"


@click.command(
    "serve", short_help="Serve an application, or this package's own server.", cls=ExampleCommand, epilog=_EXAMPLES
)
@click.argument("app", required=False)
@click.option("--workers", "-w", type=click.IntRange(1, 1024), help="Worker processes. Default: WEB_CONCURRENCY.")
@click.option("--port", "-p", type=click.IntRange(0, 65535), help="TCP port. Default: PORT.")
@click.option("--bind", "-b", multiple=True, metavar="ADDRESS", help="HOST:PORT or unix:PATH, instead of --port.")
@click.option("--reload", is_flag=True, help="Start the workers anew when a file changes; one worker by default.")
@click.argument("gunicorn_args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    app: str | None,
    workers: int | None,
    port: int | None,
    bind: tuple[str, ...],
    reload: bool,
    gunicorn_args: tuple[str, ...],
) -> None:
    """Serve APP, or this package's own server: HTTP and sockets, under gunicorn.

    APP is written as for gunicorn, and may be a Flask app that has realtime added. Under `flask mintflow` it is
    the application of `flask --app`.
    """
    if bind and port is not None:
        raise click.UsageError("Give --port or --bind, not both.")
    if app is not None and app.startswith("-"):
        gunicorn_args, app = (app, *gunicorn_args), None
    # Where a setting is wrong, this is one sentence, and not one of each worker.
    load_settings()
    if reload and workers is None:
        workers = 1
    # As settings, not as gunicorn's options: how many workers there are also decides what they do.
    _set("WEB_CONCURRENCY", workers)
    _set("PORT", port)
    line = [sys.executable, "-m", "gunicorn", "-c", "python:mintflow_realtime.app.gunicorn"]
    line += [part for address in bind for part in ("--bind", address)]
    line += ["--reload"] if reload else []
    line += [*gunicorn_args, _target(ctx, app)]
    sys.stdout.flush()
    os.execv(sys.executable, line)


def _set(name: str, value: int | None) -> None:
    if value is not None:
        os.environ[name] = os.environ[f"MINTFLOW_{name}"] = str(value)


def _target(ctx: click.Context, app: str | None) -> str:
    """Return what gunicorn imports in each worker."""
    info: Any = None
    if "flask.cli" in sys.modules:
        from flask.cli import ScriptInfo

        info = ctx.find_object(ScriptInfo)
    if app is None and info is not None:
        return f"mintflow_realtime.app.loading:load_flask({info.app_import_path or ''!r})"
    return f"mintflow_realtime.app.loading:load({app or _DEFAULT!r})"
