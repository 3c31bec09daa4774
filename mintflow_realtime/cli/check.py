"""`mintflow check`: whether a server could do its work here; with a URL, whether clients could there."""

from collections.abc import Iterable

import click

from mintflow_realtime.cli.context import ExampleCommand, load_settings, visible
from mintflow_realtime.stores.redis.self_check import CheckResult, Outcome

_EXAMPLES = """
$ mintflow check                                         this machine, and its Redis
$ mintflow check https://realtime.example.com            what a client meets there
$ mintflow check https://realtime.example.com --idle 90  and whether an idle connection lives for 90 s
$ mintflow check http://127.0.0.1:3000 --token "$(mintflow token -u ann -t acme)"
$ flask --app shop mintflow check                        with the application's own settings
"""
_COLOURS = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}


@click.command(
    "check", short_help="Check this machine, or what a URL does to clients.", cls=ExampleCommand, epilog=_EXAMPLES
)
@click.argument("url", required=False)
@click.option("--token", metavar="TEXT", envvar="REALTIME_TOKEN", help="For a server that asks for one.")
@click.option("--tenant", "-t", metavar="ID", envvar="REALTIME_TENANT", help="For a token of several tenants.")
@click.option("--idle", type=click.FloatRange(0, 3600), metavar="SECONDS", help="Default: until the first heartbeat.")
@click.option("--path", metavar="PATH", help="SOCKET_PATH there. Default: as set here, /socket.io.")
@click.option("--insecure", is_flag=True, help="Don't check the certificate of an https:// URL.")
def command(
    url: str | None, token: str | None, tenant: str | None, idle: float | None, path: str | None, insecure: bool
) -> None:
    """Check what a server needs here: settings, Redis, descriptors, its directory.

    With URL, check from a client's side what happens to its requests on the way: long-polling, WebSocket, the upgrade,
    large messages, an idle connection, headers. Names the setting of the proxy that is wrong.

    Each line is ok, warning or failed, with what to do. Ends with 1 where one has failed.
    """
    if url is None:
        from mintflow_realtime.cli.machine import check_machine

        failed = _show(check_machine())
    else:
        from mintflow_realtime.cli.client.target import Target
        from mintflow_realtime.cli.probe.run import check_url

        settings = load_settings()
        target = Target.parse(url, path or settings.socket_path, token, tenant, insecure)
        failed = _show(check_url(target, idle))
    if failed:
        raise click.exceptions.Exit(1)


def _show(results: Iterable[CheckResult]) -> bool:
    """Print each result as it comes; return whether one has failed."""
    counts = dict.fromkeys(Outcome, 0)
    for result in results:
        counts[result.outcome] += 1
        word = click.style(f"{result.outcome:<8}", fg=_COLOURS[result.outcome])
        click.echo(f"{word} {result.name:<12} {visible(result.found)}")
        if result.advice:
            click.echo(f"{'':<22}→ {visible(result.advice, ' ' * 24)}")
    click.echo(", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number) + ".")
    return counts[Outcome.FAILED] > 0
