"""`mintflow token`: a JWT signed with the server's own secret, for trying things and for services."""

import time

import click

from mintflow_realtime.cli.context import ExampleCommand, load_settings
from mintflow_realtime.cli.durations import DURATION

_EXAMPLES = """
$ mintflow token --user ann --tenant acme
$ mintflow token --user ann --tenant acme --tenant globex --default-tenant acme --name "Ann B." --expires 8h
$ mintflow token --user ingest --tenant acme --scope logs:write --expires 30d
$ curl -H "Authorization: Bearer $(mintflow token -u ann -t acme)" http://127.0.0.1:3000/api/v1/logs
"""


@click.command("token", short_help="Print a token (JWT) that the server accepts.", cls=ExampleCommand, epilog=_EXAMPLES)
@click.option("--user", "-u", required=True, metavar="ID", help="Whom the token is for.")
@click.option("--tenant", "-t", "tenants", required=True, multiple=True, metavar="ID", help="May be given repeatedly.")
@click.option("--default-tenant", metavar="ID", help="The tenant of a connection that names none.")
@click.option("--name", metavar="TEXT", help="The name that others see.")
@click.option("--scope", "-s", "scopes", multiple=True, metavar="SCOPE", help="Only these; without it, all but admin.")
@click.option("--expires", "-e", type=DURATION, default="1h", show_default=True, help="How long it is valid.")
def command(
    user: str,
    tenants: tuple[str, ...],
    default_tenant: str | None,
    name: str | None,
    scopes: tuple[str, ...],
    expires: float,
) -> None:
    """Print a JWT that this server accepts, signed with JWT_SECRET.

    The token is checked as the server would check it before it is printed.
    """
    settings = load_settings()
    # Imported here: they cost a third of a second, and `mintflow --help` needs neither.
    import jwt

    from mintflow_realtime.auth.tokens import TokenVerifier
    from mintflow_realtime.cli.scopes import scope_text

    algorithm = next((name for name in settings.jwt_algorithms if name.startswith("HS")), None)
    if settings.jwt_secret is None or algorithm is None:
        raise click.ClickException(_missing(settings.jwt_public_key is not None))
    if default_tenant is not None and default_tenant not in tenants:
        raise click.UsageError("--default-tenant must be one of the tenants.")
    if not 0 < expires <= settings.jwt_max_lifetime:
        raise click.ClickException(
            f"--expires must be at most JWT_MAX_LIFETIME, which is {settings.jwt_max_lifetime} s."
        )
    now = int(time.time())
    claims = {
        "userId": user,
        "tenants": list(dict.fromkeys(tenants)),
        "tenantId": default_tenant,
        "name": name,
        "scope": scope_text(scopes),
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "iat": now,
        "exp": now + int(expires),
    }
    text = jwt.encode(
        {key: value for key, value in claims.items() if value is not None}, settings.jwt_secret, algorithm
    )
    TokenVerifier(
        algorithms=(algorithm,),
        secret=settings.jwt_secret,
        public_key=None,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        max_lifetime=settings.jwt_max_lifetime,
    ).verify(text)
    click.echo(text)


def _missing(has_public_key: bool) -> str:
    if has_public_key:
        return "JWT_PUBLIC_KEY only checks tokens: whoever has its private key, your identity provider, signs them."
    return "JWT_SECRET is not set: take one from `openssl rand -hex 32`, and give it to this command and the server."
