"""Messages about the connection itself, in every namespace, and the HTTP bodies of tickets and revocations."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from mintflow_realtime.protocol.ids import Id, IdempotencyKey

# 8192 is the longest token that the server verifies; 256 the longest `jti`.
TokenText = Annotated[str, Meta(min_length=1, max_length=8192)]
TokenId = Annotated[str, Meta(min_length=1, max_length=256)]


class AuthRefresh(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`auth_refresh`: go on as the same user with a newer token. A repeat has the same answer by itself."""

    token: TokenText
    idempotency_key: IdempotencyKey = UNSET


class AuthRefreshed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The answer to `auth_refresh`: when the new token ends, in ISO 8601."""

    expires_at: str


class AuthExpiring(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`auth_expiring`, a minute before the connection is closed."""

    expires_at: str


class Resync(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`resync`: continuity could not be kept, so the client must fetch state anew."""

    reason: str


class TicketIssued(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The answer to `POST /tickets`: until `expires_at` the ticket may be shown."""

    ticket: str
    expires_at: str


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /revocations`: all of a user's tokens so far, or the one with this `jti`."""

    user_id: Id | int | None = None
    jti: TokenId | int | None = None

    def __post_init__(self) -> None:
        if (self.user_id is None) == (self.jti is None):
            raise ValueError("Expected exactly one of `userId` and `jti`")
