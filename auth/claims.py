"""What a token says, however it was shown: a JWT, a ticket or a session of the console."""

from typing import NamedTuple


class Claims(NamedTuple):
    """Checked claims. Times are unix seconds; `exp` is when a connection by them must end.

    Tickets and sessions carry them as a list in this order, over nodes of neighbouring releases: fields are only added.
    """

    user_id: str
    tenants: tuple[str, ...]
    tenant_id: str | None
    name: str | None
    scope: str | None
    exp: float
    iat: float | None
    jti: str | None
