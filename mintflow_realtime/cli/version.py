"""`mintflow version`: what is installed here."""

import platform
from importlib.metadata import PackageNotFoundError, version

import click

import mintflow_realtime
from mintflow_realtime.cli.context import ExampleCommand

PACKAGES = (
    "redis",
    "hiredis",
    "msgspec",
    "flask",
    "gevent",
    "gunicorn",
    "python-socketio",
    "python-engineio",
    "openai",
)


@click.command("version", short_help="Show what is installed.", cls=ExampleCommand, epilog="$ mintflow version")
def command() -> None:
    """Show the versions of the package, of Python and of what it runs on."""
    rows = [("mintflow-realtime", mintflow_realtime.__version__), ("python", platform.python_version())]
    rows += [(name, _installed(name)) for name in PACKAGES]
    for name, number in rows:
        click.echo(f"{name:<18} {number}")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
