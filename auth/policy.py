"""The permissions, and what a `scope` claim grants: no claim is all of a member's, and `admin` is never implied."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LOGS_READ: Final = "logs:read"
LOGS_WRITE: Final = "logs:write"
LOGS_CLEAR: Final = "logs:clear"
FLOWS_READ: Final = "flows:read"
FLOWS_WRITE: Final = "flows:write"
FLOWS_CONTROL: Final = "flows:control"
WORKSPACES_READ: Final = "workspaces:read"
WORKSPACES_WRITE: Final = "workspaces:write"
AI_USE: Final = "ai:use"
ADMIN: Final = "admin"

ALL_PERMISSIONS: Final = frozenset(
    (
        LOGS_READ,
        LOGS_WRITE,
        LOGS_CLEAR,
        FLOWS_READ,
        FLOWS_WRITE,
        FLOWS_CONTROL,
        WORKSPACES_READ,
        WORKSPACES_WRITE,
        AI_USE,
    )
)

# What a principal must have to be let into each typed namespace at all.
READ_SCOPE: Final[Mapping[str, str]] = MappingProxyType(
    {"/logs": LOGS_READ, "/flows": FLOWS_READ, "/workspaces": WORKSPACES_READ, "/ai": AI_USE}
)


def permissions_of(scope: str | None) -> frozenset[str]:
    """Return what a space-separated scope grants; None grants all. Unknown words and `admin` add nothing."""
    return ALL_PERMISSIONS if scope is None else ALL_PERMISSIONS.intersection(scope.split())


def grants_admin(scope: str | None) -> bool:
    """Tell whether a scope names `admin`, which no absent scope does."""
    return scope is not None and ADMIN in scope.split()


def scope_of(permissions: frozenset[str], admin: bool) -> str:
    """Return the scope that grants exactly these: `permissions_of` and `grants_admin` backwards."""
    return " ".join(sorted(permissions | {ADMIN} if admin else permissions))
