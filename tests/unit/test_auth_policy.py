"""What scopes grant, and what a principal must have."""

import dataclasses

import pytest

from mintflow_realtime.auth.policy import ALL_PERMISSIONS, READ_SCOPE, grants_admin, permissions_of, scope_of
from mintflow_realtime.auth.principal import Kind, Principal
from mintflow_realtime.protocol.errors import Forbidden


@pytest.mark.parametrize(
    ("scope", "permissions", "admin"),
    [
        (None, ALL_PERMISSIONS, False),
        ("", frozenset(), False),
        ("logs:read", {"logs:read"}, False),
        ("  logs:read\tlogs:read  flows:write ", {"logs:read", "flows:write"}, False),
        ("logs:read logs:destroy LOGS:WRITE", {"logs:read"}, False),
        ("admin", frozenset(), True),
        ("admin ai:use", {"ai:use"}, True),
        ("administrator", frozenset(), False),
        (" ".join(sorted(ALL_PERMISSIONS)), ALL_PERMISSIONS, False),
    ],
)
def test_scope_grants_what_it_lists(scope: str | None, permissions: frozenset[str], admin: bool) -> None:
    assert permissions_of(scope) == permissions
    assert grants_admin(scope) is admin
    written = scope_of(permissions_of(scope), grants_admin(scope))
    assert permissions_of(written) == permissions
    assert grants_admin(written) is admin


def test_each_typed_namespace_has_a_read_scope_that_exists() -> None:
    assert dict(READ_SCOPE) == {
        "/logs": "logs:read",
        "/flows": "flows:read",
        "/workspaces": "workspaces:read",
        "/ai": "ai:use",
    }
    assert set(READ_SCOPE.values()) <= ALL_PERMISSIONS


def principal(*permissions: str, admin: bool = False, kind: Kind = "jwt", expires_at: float | None = None) -> Principal:
    return dataclasses.replace(
        Principal.system("acme"), permissions=frozenset(permissions), admin=admin, kind=kind, expires_at=expires_at
    )


def test_require_names_what_is_missing() -> None:
    principal("logs:read").require("logs:read")
    with pytest.raises(Forbidden) as refused:
        principal("logs:read").require("logs:write")
    assert refused.value.to_wire()["permission"] == "logs:write"


def test_admin_is_of_its_own() -> None:
    with pytest.raises(Forbidden):
        principal(*ALL_PERMISSIONS).require("admin")
    principal(admin=True).require("admin")
    with pytest.raises(Forbidden):
        principal(admin=True).require("logs:read")


@pytest.mark.parametrize(
    ("expires_at", "now", "expired"), [(None, 1e12, False), (100.0, 99.9, False), (100.0, 100.0, True)]
)
def test_expiry_is_exact(expires_at: float | None, now: float, expired: bool) -> None:
    assert principal(expires_at=expires_at).expired(now) is expired


def test_system_may_do_everything_in_one_tenant_and_never_ends() -> None:
    system = Principal.system("acme")
    for permission in ALL_PERMISSIONS | {"admin"}:
        system.require(permission)
    assert (system.tenant, system.tenants, system.expired(1e12), system.revocable) == ("acme", ("acme",), False, False)


@pytest.mark.parametrize(
    ("kind", "revocable"),
    [("jwt", True), ("ticket", True), ("api_key", False), ("anonymous", False), ("system", False)],
)
def test_only_what_a_token_vouches_for_is_revocable(kind: Kind, revocable: bool) -> None:
    assert principal(kind=kind).revocable is revocable
