"""Who looks at the console: by a token, a ticket that is exchanged for a session, or nobody where anybody may."""

import secrets

from mintflow_realtime.auth.console_sessions import ConsoleSessions, is_session
from mintflow_realtime.auth.handshake import choose_tenant
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.auth.tickets import Ticket, is_ticket
from mintflow_realtime.protocol.errors import AuthenticationError
from mintflow_realtime.services.access import Access


class ConsoleAccess:
    """Admits those who look at the console. Refusals are as `Access`'s."""

    def __init__(self, access: Access, sessions: ConsoleSessions) -> None:
        self._access, self._sessions = access, sessions

    def admit(self, bearer: str | None, wanted_tenant: str | None) -> tuple[Principal, str | None]:
        """Return who asks, and the session for a ticket, which this spends.

        Raises `AuthenticationError` or one of its kinds, or `Unavailable`.
        """
        if bearer and is_session(bearer):
            return self._of_session(bearer, wanted_tenant), None
        # Nobody may show again what is spent here, under whatever session.
        principal = self._access.admit(bearer, wanted_tenant, secrets.token_urlsafe(16))
        session = self._sessions.seal(principal.claims) if bearer and is_ticket(bearer) else None
        return principal, session

    def issue_ticket(self, bearer: str | None, wanted_tenant: str | None) -> tuple[Principal, Ticket]:
        """Return whose session it is, and a ticket for them. Raises as `admit`."""
        if not bearer or not is_session(bearer):
            raise AuthenticationError("A session of the console is required")
        principal = self._of_session(bearer, wanted_tenant)
        return principal, self._access.issue_ticket(principal)

    def _of_session(self, session: str, wanted_tenant: str | None) -> Principal:
        claims = self._sessions.open(session)
        tenant = choose_tenant(claims.tenants, claims.tenant_id, wanted_tenant)
        # As by the token that the first ticket was issued for: tickets are issued to such alone.
        principal = Principal.of(claims, tenant, "jwt")
        if self._access.revoked([principal])[0]:
            raise AuthenticationError("The token was revoked")
        return principal
