"""Tickets: signed stand-ins for a token that may travel in a URL, to be shown within 30 seconds and once.

That a ticket is spent once is remembered by a store; here is only the signature.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import jwt
import msgspec
from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.tokens import MAX_TOKEN_BYTES, as_text
from mintflow_realtime.protocol.errors import AuthenticationError, InvalidPayload, TokenExpired, TooLarge
from mintflow_realtime.protocol.ids import check_id, check_tenant
from mintflow_realtime.protocol.times import iso

# A JWT begins with base64url of `{`, so with `e`: no JWT begins like this.
PREFIX = "t_"
TICKET_SECONDS = 30
# Nodes sign and verify by their own clocks; itsdangerous alone would refuse a ticket of a clock one second ahead.
CLOCK_SKEW_SECONDS = 10
# A session that an application vouches for by a ticket ends after this, as no token says when.
MAX_SESSION_SECONDS = 3600.0
_SALT = b"mintflow.ticket"
# Its id, then the claims.
_Content = Annotated[list[Any], msgspec.Meta(min_length=1)]


class Ticket(str):
    """A ticket as text, to be sent as it is; `expires_at` says until when it may be shown (ISO 8601, UTC)."""

    expires_at: str

    def __new__(cls, text: str, expires_at: str) -> Self:
        ticket = super().__new__(cls, text)
        ticket.expires_at = expires_at
        return ticket

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        # What copies and pickles are made from.
        return str(self), self.expires_at


@dataclass(frozen=True, slots=True)
class Shown:
    """A ticket that was shown: its claims, and the id under which it is spent."""

    id: str
    claims: Claims


class _Signer(TimestampSigner):
    """itsdangerous's signer by a given clock, so that one clock judges tokens and tickets."""

    def __init__(self, *args: Any, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


class Tickets:
    """Issues and verifies tickets. Without a secret both are off and raise `AuthenticationError`."""

    def __init__(self, secret: bytes | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._serializer = (
            URLSafeTimedSerializer(
                secret,
                salt=_SALT,
                signer=_Signer,
                # SHA-1 and a plain hash of salt and key are the defaults, kept by the library for old signatures.
                signer_kwargs={"clock": clock, "key_derivation": "hmac", "digest_method": hashlib.sha256},
            )
            if secret
            else None
        )

    def issue(self, claims: Claims) -> Ticket:
        """Return a new ticket for `claims`, which may be shown for 30 s, and no longer than they hold.

        Raises `TooLarge` where it would be longer than a token may be.
        """
        serializer = self._on()
        ticket_id = secrets.token_urlsafe(16)
        issued = int(self._clock())
        text = PREFIX + serializer.dumps([ticket_id, *claims])
        if len(text) > MAX_TOKEN_BYTES:
            raise TooLarge(f"The ticket would be longer than {MAX_TOKEN_BYTES} characters: fewer tenants would fit")
        until = min(float(issued + TICKET_SECONDS), claims.exp)
        return Ticket(text, iso(int(until * 1000)))

    def verify(self, ticket: str) -> Shown:
        """Return what `ticket` says. Raises `TokenExpired` or another `AuthenticationError`."""
        serializer = self._on()
        if not is_ticket(ticket) or not ticket.isascii() or len(ticket) > MAX_TOKEN_BYTES:
            raise AuthenticationError("That is not a ticket")
        try:
            payload, signed_at = serializer.loads(ticket[len(PREFIX) :], return_timestamp=True)
            ticket_id, *said = msgspec.convert(payload, _Content)
            shown = Shown(msgspec.convert(ticket_id, str), msgspec.convert(said, Claims))
        except (BadData, msgspec.ValidationError):
            raise AuthenticationError("The ticket is malformed or its signature is wrong") from None
        now = self._clock()
        age = now - signed_at.timestamp()
        if age < -CLOCK_SKEW_SECONDS:
            raise AuthenticationError("The ticket is not valid yet: compare the clocks of the nodes")
        if age >= TICKET_SECONDS or now >= shown.claims.exp:
            raise TokenExpired("The ticket has expired: fetch a new one for each connection")
        return shown

    def _on(self) -> URLSafeTimedSerializer:
        if self._serializer is None:
            raise AuthenticationError("Tickets are off: this server has no secret to sign them with")
        return self._serializer


def session_claims(
    user_id: str, tenants: Sequence[str], scope: str | None, name: str | None, seconds: float, now: float
) -> Claims:
    """Return the claims of a user whom the application itself has authenticated, for `seconds` (at most 3,600).

    Raises `InvalidPayload` with the argument's path.
    """
    # A row's number is what many applications have.
    user_id = check_id(as_text(user_id), "$.userId")
    if isinstance(tenants, str) or not tenants:
        raise InvalidPayload("Expected a list of at least one tenant", "$.tenants")
    for place, tenant in enumerate(tenants):
        check_tenant(tenant, f"$.tenants[{place}]")
    for path, text in (("$.scope", scope), ("$.name", name)):
        if text is not None and not isinstance(text, str):
            raise InvalidPayload("Expected text", path)
    if not 0 < seconds <= MAX_SESSION_SECONDS:
        raise InvalidPayload("Expected seconds above 0 and up to 3600", "$.sessionSeconds")
    listed = tuple(dict.fromkeys(tenants))
    return Claims(user_id, listed, None, name, scope, exp=now + seconds, iat=now, jti=None)


def is_ticket(token: object) -> bool:
    """Tell a ticket from a JWT by its form. Says nothing of its worth."""
    return isinstance(token, str) and token.startswith(PREFIX)


def ticket_key(ticket_secret: str | None, jwt_secret: str | None) -> bytes | None:
    """Return the key that tickets are signed with, or None where they are off.

    It is the ticket secret, else one derived from the JWT secret, so that neither signs for the other. Raises
    ValueError for a public key: everyone has it, so anyone could sign.
    """
    for secret in (ticket_secret, jwt_secret):
        if secret:
            try:
                jwt.get_algorithm_by_name("HS256").prepare_key(secret)
            except jwt.PyJWTError as error:
                raise ValueError(f"Tickets can't be signed with this secret: {error}") from None
    if ticket_secret:
        return ticket_secret.encode()
    return hmac.digest(jwt_secret.encode(), b"mintflow ticket key", "sha256") if jwt_secret else None
