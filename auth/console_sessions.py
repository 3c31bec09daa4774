"""What the console's page keeps in a ticket's place: signed claims, which open nothing but new tickets."""

import hashlib
import time
from collections.abc import Callable

import msgspec
from itsdangerous import BadData, URLSafeSerializer

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.tokens import MAX_TOKEN_BYTES
from mintflow_realtime.protocol.errors import AuthenticationError, TokenExpired

PREFIX = "c_"
_SALT = b"mintflow.console"


class ConsoleSessions:
    """Signs and verifies sessions. Without a secret both raise `AuthenticationError`."""

    def __init__(self, secret: bytes | None, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._serializer = (
            URLSafeSerializer(
                secret, salt=_SALT, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
            )
            if secret
            else None
        )

    def seal(self, claims: Claims) -> str:
        """Return `claims` as text that a page may keep for as long as they hold."""
        return PREFIX + str(self._on().dumps([*claims]))

    def open(self, session: str) -> Claims:
        """Return what `session` says. Raises `TokenExpired` or another `AuthenticationError`."""
        serializer = self._on()
        # Twice a ticket's, which has the same in it: as much as can have been sealed.
        if not session.startswith(PREFIX) or not session.isascii() or len(session) > 2 * MAX_TOKEN_BYTES:
            raise AuthenticationError("That is not a session of the console")
        try:
            claims = msgspec.convert(serializer.loads(session[len(PREFIX) :]), Claims)
        except (BadData, msgspec.ValidationError):
            raise AuthenticationError("The session is malformed or its signature is wrong") from None
        if self._clock() >= claims.exp:
            raise TokenExpired("The session has ended: sign in again")
        return claims

    def _on(self) -> URLSafeSerializer:
        if self._serializer is None:
            raise AuthenticationError("This server has no secret to sign sessions with")
        return self._serializer


def is_session(token: str) -> bool:
    """Tell a session from a JWT and a ticket by its form."""
    return token.startswith(PREFIX)
