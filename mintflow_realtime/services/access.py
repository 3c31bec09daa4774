"""The one door through which a principal is admitted, refreshed or revoked. Every refusal here is final.

What may pass, a Redis that does not answer, is `Unavailable`, which the caller must not turn into a refusal.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.handshake import choose_tenant
from mintflow_realtime.auth.policy import permissions_of
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.auth.tickets import (
    CLOCK_SKEW_SECONDS,
    MAX_SESSION_SECONDS,
    TICKET_SECONDS,
    Ticket,
    Tickets,
    is_ticket,
    session_claims,
)
from mintflow_realtime.auth.tokens import MAX_JTI_LENGTH, TokenVerifier
from mintflow_realtime.protocol.errors import (
    AuthenticationError,
    AuthenticationRequired,
    Forbidden,
    InvalidPayload,
    RealtimeError,
    TenantDenied,
)
from mintflow_realtime.protocol.ids import check_id
from mintflow_realtime.stores.access.store import AccessStore, Holder

# Longer than any node's clock can take a ticket for valid.
_SPENT_SECONDS = TICKET_SECONDS + 2 * CLOCK_SKEW_SECONDS


class Access:
    """Joins tokens, tickets, API keys and the anonymous policy with what is spent and revoked.

    `api_keys` maps each key to its tenant. `clock` gives unix seconds.
    """

    def __init__(
        self,
        *,
        verifier: TokenVerifier,
        tickets: Tickets,
        store: AccessStore,
        auth_required: bool,
        anonymous_tenants: Sequence[str],
        anonymous_scope: str,
        api_keys: Mapping[str, str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError for an empty API key, which every request without one would show."""
        if not all(api_keys):
            raise ValueError("An API key is empty")
        self._verifier = verifier
        self._tickets = tickets
        self._store = store
        self._auth_required = auth_required
        self._anonymous_tenants = tuple(anonymous_tenants)
        self._anonymous_permissions = permissions_of(anonymous_scope)
        self._api_keys = [(_digest(key), tenant) for key, tenant in api_keys.items()]
        self._clock = clock

    def admit(self, token: str | None, wanted_tenant: str | None, session: str) -> Principal:
        """Return who connects. `session` is the Engine.IO session, which may show its ticket again.

        Raises `AuthenticationError` or one of its kinds, or `Unavailable`, which is no refusal.
        """
        if token:
            return self._admit_token(token, wanted_tenant, session)
        if self._auth_required:
            raise AuthenticationRequired("A token is required")
        return self._anonymous(choose_tenant(self._anonymous_tenants, None, wanted_tenant))

    def admit_http(self, bearer: str | None, api_key: str | None, wanted_tenant: str | None) -> Principal:
        """Return who asks over HTTP, by a token, a ticket (which that spends) or an API key; never anonymous.

        Raises `AuthenticationError` or one of its kinds, or `Unavailable`.
        """
        if api_key is not None:
            if bearer:
                raise AuthenticationError("Send a bearer token or an API key, not both")
            return self._admit_api_key(api_key, wanted_tenant)
        if bearer:
            return self._admit_token(bearer, wanted_tenant, secrets.token_urlsafe(16))
        raise AuthenticationRequired("A bearer token or an API key is required")

    def refresh(self, principal: Principal, token: str, session: str) -> Principal:
        """Return `principal` as `token` says now, in the same tenant.

        Raises `Forbidden` for another user, a token without this tenant, a wider scope, or a principal that no token
        vouches for; `AuthenticationError` for a wrong, expired or revoked token; `Unavailable`.
        """
        if not principal.revocable:
            raise Forbidden("Only a connection by a token can be refreshed")
        claims, ticket_id = self._claims(token)
        if claims.user_id != principal.user_id:
            raise Forbidden("The token is another user's")
        if principal.tenant not in claims.tenants:
            raise Forbidden("The token is not for this tenant")
        refreshed = Principal.of(claims, principal.tenant, "ticket" if ticket_id else "jwt")
        if not refreshed.permissions <= principal.permissions or (refreshed.admin and not principal.admin):
            raise Forbidden("The token's scope is wider: connect anew with it")
        self._pass(refreshed, ticket_id, session)
        return refreshed

    def issue_ticket(self, principal: Principal) -> Ticket:
        """Return a ticket for the user of a JWT.

        It opens by default the tenant that the principal acts in. Raises `Forbidden` for other principals,
        `AuthenticationError` where tickets are off, `TooLarge`.
        """
        if principal.kind != "jwt" or principal.expires_at is None:
            raise Forbidden("Tickets are issued to the bearer of a JWT alone")
        return self._tickets.issue(principal.claims)

    def issue_ticket_for(
        self,
        user_id: str,
        tenants: Sequence[str],
        scope: str | None = None,
        name: str | None = None,
        session_seconds: float = MAX_SESSION_SECONDS,
    ) -> Ticket:
        """Return a ticket for a user whom the application has authenticated itself: text that its client sends.

        The ticket's `expires_at` says until when it may be shown. It opens one of `tenants`, with the permissions of
        `scope`; the connection ends after `session_seconds`, at most 3,600.
        Raises as `issue_ticket`, and `InvalidPayload`.
        """
        seconds = min(session_seconds, self._verifier.max_lifetime)
        return self._tickets.issue(session_claims(user_id, tenants, scope, name, seconds, self._clock()))

    def revoke(self, principal: Principal, user_id: str | None = None, jti: str | None = None) -> None:
        """Refuse a user's tokens so far, or one token, in the caller's tenant alone, and close what they opened.

        Raises `Forbidden` unless the caller is an API key or has the scope `admin`, `InvalidPayload`, `Unavailable`.
        """
        if not principal.admin and principal.kind != "api_key":
            raise Forbidden("Revoking needs an API key or the scope admin")
        now = self._clock()
        # A token is shown until its leeway has passed, and may be dated ahead by as much.
        lifetime = self._verifier.max_lifetime + 2 * self._verifier.leeway
        if user_id is not None and jti is None:
            self._store.revoke_user(principal.tenant, check_id(user_id, "$.userId"), now, lifetime)
        elif jti is not None and user_id is None:
            if not 0 < len(jti) <= MAX_JTI_LENGTH:
                raise InvalidPayload(f"Expected 1 to {MAX_JTI_LENGTH} characters", "$.jti")
            self._store.revoke_token(principal.tenant, jti, now, lifetime)
        else:
            raise InvalidPayload("Expected exactly one of userId and jti")

    def revoked(self, principals: Sequence[Principal]) -> list[bool]:
        """Tell of each principal whether it was revoked since. Raises `Unavailable`."""
        asked = [place for place, principal in enumerate(principals) if principal.revocable]
        answers = [False] * len(principals)
        found = self._store.revoked_many([_holder(principals[place]) for place in asked])
        for place, answer in zip(asked, found, strict=True):
            answers[place] = answer
        return answers

    def _admit_token(self, token: str, wanted: str | None, session: str) -> Principal:
        claims, ticket_id = self._claims(token)
        try:
            tenant = choose_tenant(claims.tenants, claims.tenant_id, wanted)
            principal = Principal.of(claims, tenant, "ticket" if ticket_id else "jwt")
            self._pass(principal, ticket_id, session)
        except RealtimeError as error:
            error.who = (claims.user_id, wanted)
            raise
        return principal

    def _claims(self, token: str) -> tuple[Claims, str | None]:
        if not is_ticket(token):
            return self._verifier.verify(token), None
        shown = self._tickets.verify(token)
        return shown.claims, shown.id

    def _pass(self, principal: Principal, ticket_id: str | None, session: str) -> None:
        if self._store.revoked(_holder(principal)):
            raise AuthenticationError("The token was revoked")
        # Last, so that a connection that is refused for another reason doesn't use the ticket up.
        if ticket_id and not self._store.spend_ticket(ticket_id, session, _SPENT_SECONDS):
            raise AuthenticationError("The ticket was used before: fetch a new one for each connection")

    def _anonymous(self, tenant: str) -> Principal:
        # 128 random bits, so that nobody can name another's id, nor an issuer one of these.
        user_id = f"anonymous-{secrets.token_hex(16)}"
        nobody = Claims(user_id, self._anonymous_tenants, None, None, None, exp=0.0, iat=None, jti=None)
        return replace(
            Principal.of(nobody, tenant, "anonymous"),
            permissions=self._anonymous_permissions,
            expires_at=None,
            anonymous=True,
        )

    def _admit_api_key(self, api_key: str, wanted: str | None) -> Principal:
        digest = _digest(api_key)
        tenant = None
        # Over all keys, whichever fits, so that the time tells nothing of the place.
        for known, its_tenant in self._api_keys:
            if hmac.compare_digest(known, digest):
                tenant = its_tenant
        if tenant is None:
            raise AuthenticationError("The API key is not known")
        if wanted and wanted != tenant:
            raise TenantDenied("The API key is of another tenant")
        owner = Claims(f"api-key-{digest.hex()[:16]}", (tenant,), tenant, None, None, exp=0.0, iat=None, jti=None)
        return replace(Principal.of(owner, tenant, "api_key"), expires_at=None)


def _holder(principal: Principal) -> Holder:
    return Holder(principal.tenant, principal.user_id, principal.token_id, principal.issued_at)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
