"""`mintflow ticket`: a ticket of 30 seconds, as `issue_ticket` gives one."""

import time

import click

from mintflow_realtime.cli.context import ExampleCommand, load_settings
from mintflow_realtime.cli.durations import DURATION

_EXAMPLES = """
$ mintflow ticket --user ann --tenant acme
$ mintflow ticket --user ann --tenant acme --scope "logs:read flows:read" --session 10m
"""


@click.command("ticket", short_help="Print a ticket, to be shown once.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.option("--user", "-u", required=True, metavar="ID", help="Whom the ticket is for.")
@click.option("--tenant", "-t", "tenants", required=True, multiple=True, metavar="ID", help="May be given repeatedly.")
@click.option("--name", metavar="TEXT", help="The name that others see.")
@click.option("--scope", "-s", "scopes", multiple=True, metavar="SCOPE", help="Only these; without it, all but admin.")
@click.option("--session", type=DURATION, default="1h", show_default=True, help="How long its connection may last.")
def command(user: str, tenants: tuple[str, ...], name: str | None, scopes: tuple[str, ...], session: float) -> None:
    """Print a ticket: it is shown instead of a token, once, within 30 seconds.

    Signed with TICKET_SECRET, else with a key derived from JWT_SECRET.
    """
    settings = load_settings()
    from mintflow_realtime.auth.tickets import TICKET_SECONDS, Tickets, session_claims, ticket_key
    from mintflow_realtime.cli.scopes import scope_text

    key = ticket_key(settings.ticket_secret, settings.jwt_secret)
    if key is None:
        raise click.ClickException(
            "Neither TICKET_SECRET nor JWT_SECRET is set: take one from `openssl rand -hex 32`, "
            "and give it to this command and the server."
        )
    claims = session_claims(user, tenants, scope_text(scopes), name, session, time.time())
    click.echo(Tickets(key).issue(claims))
    # Beside the output, so that "$(mintflow ticket …)" is the ticket alone.
    click.echo(f"To be shown within {TICKET_SECONDS} s, once.", err=True)
