"""Who a sid or a request acts as. Fixed for a connection's life, but for what a refreshed token changes."""

from dataclasses import dataclass
from typing import Literal

from auth.policy import ADMIN, ALL_PERMISSIONS
from protocol.errors import Forbidden

Kind = Literal["jwt", "ticket", "api_key", "anonymous", "system"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A user in one tenant. `expires_at` and `issued_at` are unix seconds.

    `expires_at` is None where nothing ends it: anonymous, API keys, in-process code. `tenants` are all those that
    the token names, which a ticket carries on; every check is against `tenant` alone. `token_id` is the `jti` of
    the token, for a ticket that of the token that it was issued for.
    """

    user_id: str
    tenant: str
    name: str | None
    permissions: frozenset[str]
    expires_at: float | None
    anonymous: bool
    admin: bool
    token_id: str | None
    issued_at: float | None
    kind: Kind
    tenants: tuple[str, ...]

    @classmethod
    def system(cls, tenant: str) -> "Principal":
        """Return the principal of in-process code: every permission in `tenant`."""
        return cls(
            user_id="system",
            tenant=tenant,
            name=None,
            permissions=ALL_PERMISSIONS,
            expires_at=None,
            anonymous=False,
            admin=True,
            token_id=None,
            issued_at=None,
            kind="system",
            tenants=(tenant,),
        )

    @property
    def revocable(self) -> bool:
        """Tell whether revocations concern this principal: only those that a token vouches for."""
        return self.kind in ("jwt", "ticket")

    def require(self, permission: str) -> None:
        """Raise `Forbidden` unless this principal has `permission` (one of `auth.policy`, `admin` included)."""
        if permission not in self.permissions and not (permission == ADMIN and self.admin):
            raise Forbidden(f"This needs the permission {permission}", permission=permission)

    def expired(self, now: float) -> bool:
        """Tell whether the token has ended at `now`, in unix seconds."""
        return self.expires_at is not None and now >= self.expires_at
