"""`mintflow console`: an address of the console that signs in by itself, once."""

import time
from urllib.parse import quote

import click

from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.context import ExampleCommand, load_settings, tenant_of
from mintflow_realtime.cli.durations import DURATION

_EXAMPLES = """
$ mintflow console
$ mintflow console --tenant acme --user ann --scope "logs:read flows:read admin"
$ mintflow console --url https://realtime.example.com --session 8m
"""
_TENANT = "May be given repeatedly. Default: the first of SOCKET_ANONYMOUS_TENANTS."


@click.command("console", short_help="Print an address that signs in.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.option("--url", metavar="URL", help="Where the server is. Default: this machine, at PORT.")
@click.option("--user", "-u", default="console", show_default=True, metavar="ID", help="Whom the page acts as.")
@click.option("--tenant", "-t", "tenants", multiple=True, metavar="ID", help=_TENANT)
@click.option("--scope", "-s", "scopes", multiple=True, metavar="SCOPE", help="Only these. Default: all, admin too.")
@click.option("--session", type=DURATION, default="1h", show_default=True, help="For how long; an hour at most.")
def command(url: str | None, user: str, tenants: tuple[str, ...], scopes: tuple[str, ...], session: float) -> None:
    """Print an address of the console that signs in by a ticket, once, within 30 seconds.

    The ticket is signed as `mintflow ticket` signs one. Who has it may do what `--scope` says, by default everything.
    """
    settings = load_settings()
    if not settings.console:
        raise click.ClickException("CONSOLE is false: this server has no console.")
    from mintflow_realtime.auth.policy import ALL_PERMISSIONS, scope_of
    from mintflow_realtime.auth.tickets import TICKET_SECONDS, Tickets, session_claims, ticket_key
    from mintflow_realtime.cli.scopes import scope_text

    place = Target.parse(url or f"http://127.0.0.1:{settings.port}", "console", None, None)
    address = f"{place.origin}{place.path}"
    key = ticket_key(settings.ticket_secret, settings.jwt_secret)
    if key is None:
        if settings.auth_required:
            raise click.ClickException("Neither TICKET_SECRET nor JWT_SECRET is set: sign in with a token instead.")
        click.echo(address)
        click.echo("Without a ticket: neither TICKET_SECRET nor JWT_SECRET is set.", err=True)
        return
    scope = scope_text(scopes) or scope_of(ALL_PERMISSIONS, True)
    claims = session_claims(user, tenants or (tenant_of(None),), scope, None, session, time.time())
    # Behind the `#`, which no browser sends: the ticket is in no server's log.
    click.echo(f"{address}#ticket={quote(str(Tickets(key).issue(claims)))}")
    click.echo(f"To be opened within {TICKET_SECONDS} s, once.", err=True)
