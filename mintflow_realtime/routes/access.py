"""`/api/v1/tickets` and `/api/v1/revocations`."""

from flask import Response

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import AuthenticationError, Forbidden
from mintflow_realtime.protocol.session import RevocationRequest, TicketIssued
from mintflow_realtime.routes.answers import answer
from mintflow_realtime.routes.body import read_message
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog


class AccessViews:
    """The views of tickets and revocations."""

    def __init__(self, access: Access, access_log: AccessLog | None = None) -> None:
        self._access, self._access_log = access, access_log

    def issue_ticket(self, principal: Principal) -> Response:
        """Give the bearer of a JWT a ticket."""
        try:
            ticket = self._access.issue_ticket(principal)
        except AuthenticationError as error:
            # Tickets are off. The caller was admitted, so a 401 would have it fetch new tokens for ever.
            raise Forbidden(error.message) from None
        return answer(TicketIssued(str(ticket), ticket.expires_at), 201)

    def revoke(self, principal: Principal) -> Response:
        """Refuse a user's tokens so far, or one token."""
        request = read_message(RevocationRequest)
        user_id, jti = _text(request.user_id), _text(request.jti)
        self._access.revoke(principal, user_id, jti)
        if self._access_log is not None:
            self._access_log.note(
                "revoked",
                user=principal.user_id,
                tenant=principal.tenant,
                revoked_user=user_id,
                revoked_token=jti,
            )
        return answer({}, 202)


def _text(given: str | int | None) -> str | None:
    return given if given is None else str(given)
