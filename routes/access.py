"""`/api/v1/tickets` and `/api/v1/revocations`."""

from flask import Response

from auth.principal import Principal
from protocol.errors import AuthenticationError, Forbidden
from protocol.session import RevocationRequest, TicketIssued
from routes.answers import answer
from routes.body import read_message
from services.access import Access


class AccessViews:
    """The views of tickets and revocations."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def issue_ticket(self, principal: Principal) -> Response:
        """Give the bearer of a JWT a ticket."""
        try:
            ticket, expires_at = self._access.issue_ticket(principal)
        except AuthenticationError as error:
            # Tickets are off. The caller was admitted, so a 401 would have it fetch new tokens for ever.
            raise Forbidden(error.message) from None
        return answer(TicketIssued(ticket, expires_at), 201)

    def revoke(self, principal: Principal) -> Response:
        """Refuse a user's tokens so far, or one token."""
        request = read_message(RevocationRequest)
        self._access.revoke(principal, request.user_id, request.jti)
        return answer({}, 202)
