"""Who a sid or a request acts as. Fixed for a connection's life, but for what a refreshed token changes."""

from dataclasses import dataclass
from typing import Literal

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.policy import ADMIN, ALL_PERMISSIONS, grants_admin, permissions_of, scope_of
from mintflow_realtime.protocol.errors import Forbidden

Kind = Literal["jwt", "ticket", "api_key", "anonymous", "system"]

# The name reaches everybody in a workspace with each presence event; only the token's 8 KB bound it before.
MAX_NAME_LENGTH = 128


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
    def of(cls, claims: Claims, tenant: str, kind: Kind) -> "Principal":
        """Return who `claims` speak of, in `tenant`, which must be one of theirs."""
        return cls(
            user_id=claims.user_id,
            tenant=tenant,
            name=None if claims.name is None else claims.name[:MAX_NAME_LENGTH],
            permissions=permissions_of(claims.scope),
            expires_at=claims.exp,
            anonymous=False,
            admin=grants_admin(claims.scope),
            token_id=claims.jti,
            issued_at=claims.iat,
            kind=kind,
            tenants=claims.tenants,
        )

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
    def claims(self) -> Claims:
        """Return what speaks of this principal, and opens by default its tenant: what a ticket or a session carries.

        Raises ValueError for one that nothing ends.
        """
        if self.expires_at is None:
            raise ValueError("A principal without an end has no claims")
        return Claims(
            user_id=self.user_id,
            tenants=self.tenants,
            tenant_id=self.tenant,
            name=self.name,
            scope=scope_of(self.permissions, self.admin),
            exp=self.expires_at,
            iat=self.issued_at,
            jti=self.token_id,
        )

    @property
    def revocable(self) -> bool:
        """Tell whether revocations concern this principal: only those that a token vouches for."""
        return self.kind in ("jwt", "ticket")

    @property
    def repeats_as(self) -> str:
        """Whose idempotency keys this one's are: who is anonymous has another user id after each reconnect."""
        return "" if self.anonymous else self.user_id

    def require(self, permission: str) -> None:
        """Raise `Forbidden` unless this principal has `permission` (one of `auth.policy`, `admin` included)."""
        if permission not in self.permissions and not (permission == ADMIN and self.admin):
            raise Forbidden(f"This needs the permission {permission}", permission=permission)

    def expired(self, now: float) -> bool:
        """Tell whether the token has ended at `now`, in unix seconds."""
        return self.expires_at is not None and now >= self.expires_at
