"""Who is admitted, refreshed and revoked, with real tokens, real tickets and a real Redis."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from mintflow_realtime.auth.policy import ALL_PERMISSIONS
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.auth.tickets import Tickets
from mintflow_realtime.auth.tokens import TokenVerifier
from mintflow_realtime.protocol.errors import (
    AuthenticationError,
    AuthenticationRequired,
    Forbidden,
    InvalidPayload,
    TenantDenied,
    TenantRequired,
    TokenExpired,
    Unavailable,
)
from mintflow_realtime.protocol.ids import is_id
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.protocol.session import AuthRefresh, RevocationRequest, TicketIssued
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.services.access import Access
from mintflow_realtime.stores.access.store import AccessStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.redis_fixture import PrivateRedis

NOW = 1_900_000_000.0
SECRET = "0123456789abcdef0123456789abcdef-test"
DAY = 86_400
API_KEYS = {"key-of-acme": "acme", "key-of-beta": "beta", "second-key-of-acme": "acme"}


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    server = PrivateRedis()
    yield server.url
    server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(redis_url: str) -> Iterator[RedisClient]:
    client = RedisClient(connect(redis_url))
    client.command("FLUSHALL")
    yield client
    client.close()


def build(client: RedisClient, clock: Clock, **changes: Any) -> Access:
    options: dict[str, Any] = {
        "verifier": TokenVerifier(["HS256"], SECRET, None, None, None, 30 * DAY, 30.0, clock),
        "tickets": Tickets(b"a ticket secret of at least 32 bytes", clock),
        "store": AccessStore(client, Keys("t0")),
        "auth_required": False,
        "anonymous_tenants": ["default"],
        "anonymous_scope": "logs:read flows:read admin",
        "api_keys": API_KEYS,
        "clock": clock,
    }
    return Access(**{**options, **changes})


@pytest.fixture
def access(client: RedisClient, clock: Clock) -> Access:
    return build(client, clock)


def token(**changes: Any) -> str:
    claims = {"userId": "u1", "tenants": ["acme"], "exp": NOW + 600, "iat": NOW - 5, "jti": "j1", **changes}
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, SECRET, algorithm="HS256")


def admitted(access: Access, **changes: Any) -> Principal:
    return access.admit(token(**changes), None, "session")


def test_token_admits_its_user(access: Access) -> None:
    principal = access.admit(token(tenants=["acme", "beta"], name="Ann"), "beta", "session")
    assert principal == Principal(
        user_id="u1",
        tenant="beta",
        name="Ann",
        permissions=ALL_PERMISSIONS,
        expires_at=NOW + 600,
        anonymous=False,
        admin=False,
        token_id="j1",
        issued_at=NOW - 5,
        kind="jwt",
        tenants=("acme", "beta"),
    )


def test_scope_narrows_and_admin_is_never_implied(access: Access) -> None:
    narrow = admitted(access, scope="logs:read admin")
    assert (narrow.permissions, narrow.admin) == (frozenset({"logs:read"}), True)


def test_long_names_are_cut(access: Access) -> None:
    assert admitted(access, name="x" * 500).name == "x" * 128


@pytest.mark.parametrize(
    ("changes", "wanted", "error"),
    [
        ({"tenants": ["acme", "beta"]}, None, TenantRequired),
        ({"tenants": None}, None, TenantRequired),
        ({"tenants": None}, "acme", TenantDenied),
        ({}, "beta", TenantDenied),
        ({"exp": NOW - 31}, None, TokenExpired),
        ({"userId": "a\n"}, None, AuthenticationError),
    ],
)
def test_tokens_refused(access: Access, changes: dict[str, Any], wanted: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        access.admit(token(**changes), wanted, "session")


@pytest.mark.parametrize("wrong", ["garbage", "t_garbage", "key-of-acme", "a.b.c"])
def test_a_wrong_token_is_never_downgraded_to_anonymous(access: Access, wrong: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        access.admit(wrong, "default", "session")
    assert refused.value.code == "authentication_failed"


@pytest.mark.parametrize("nothing", [None, ""])
def test_anonymous(access: Access, nothing: str | None) -> None:
    first, second = access.admit(nothing, None, "session"), access.admit(nothing, "default", "session")
    assert first.user_id != second.user_id
    assert is_id(first.user_id)
    assert (first.tenant, first.kind, first.anonymous) == ("default", "anonymous", True)
    assert (first.permissions, first.admin) == (frozenset({"logs:read", "flows:read"}), False)
    assert (first.expires_at, first.token_id, first.issued_at) == (None, None, None)
    with pytest.raises(TenantDenied):
        access.admit(nothing, "acme", "session")


def test_anonymous_with_several_tenants_or_none(client: RedisClient, clock: Clock) -> None:
    several = build(client, clock, anonymous_tenants=["a", "b"])
    assert several.admit(None, "b", "session").tenant == "b"
    with pytest.raises(TenantRequired):
        several.admit(None, None, "session")
    with pytest.raises(TenantDenied):
        build(client, clock, anonymous_tenants=[]).admit(None, "a", "session")


def test_auth_required(client: RedisClient, clock: Clock) -> None:
    strict = build(client, clock, auth_required=True)
    for nothing in (None, ""):
        with pytest.raises(AuthenticationRequired):
            strict.admit(nothing, "default", "session")
    assert admitted(strict).user_id == "u1"


def test_redis_down_is_no_refusal(tmp_path: Path, clock: Clock) -> None:
    client = RedisClient(connect(f"unix://{tmp_path}/none.sock"))
    access = build(client, clock)
    with pytest.raises(Unavailable):
        admitted(access)
    with pytest.raises(Unavailable):
        access.admit_http(token(), None, None)
    assert access.admit(None, None, "session").anonymous
    client.close()


def test_ticket_is_spent_by_the_first_session(access: Access) -> None:
    ticket = access.issue_ticket(admitted(access, tenants=["acme", "beta"], tenantId="beta", name="Ann"))
    assert ticket.expires_at == iso(int(NOW + 30) * 1000)
    principal = access.admit(ticket, None, "session-a")
    assert (principal.user_id, principal.tenant, principal.name, principal.kind) == ("u1", "beta", "Ann", "ticket")
    assert (principal.expires_at, principal.issued_at, principal.token_id) == (NOW + 600, NOW - 5, "j1")
    assert principal.tenants == ("acme", "beta")
    assert access.admit(ticket, "acme", "session-a").tenant == "acme"
    with pytest.raises(AuthenticationError, match="used before"):
        access.admit(ticket, None, "session-b")
    with pytest.raises(AuthenticationError, match="used before"):
        access.admit_http(ticket, None, None)


def test_ticket_over_http_works_once(access: Access) -> None:
    ticket = access.issue_ticket(admitted(access))
    assert access.admit_http(ticket, None, None).kind == "ticket"
    with pytest.raises(AuthenticationError, match="used before"):
        access.admit_http(ticket, None, None)


def test_refused_connection_does_not_use_the_ticket_up(access: Access) -> None:
    ticket = access.issue_ticket(admitted(access))
    with pytest.raises(TenantDenied):
        access.admit(ticket, "beta", "session-a")
    assert access.admit(ticket, "acme", "session-b").tenant == "acme"


@pytest.mark.parametrize("scope", [None, "", "logs:read", "logs:read admin", "admin"])
def test_ticket_grants_what_its_token_grants(access: Access, scope: str | None) -> None:
    principal = admitted(access, scope=scope)
    by_ticket = access.admit(access.issue_ticket(principal), None, "session")
    assert (by_ticket.permissions, by_ticket.admin) == (principal.permissions, principal.admin)


def test_ticket_is_remembered_for_longer_than_it_lives(access: Access, client: RedisClient, clock: Clock) -> None:
    access.admit(access.issue_ticket(admitted(access)), None, "session")
    (key,) = client.command("KEYS", "t0:{-}:ticket:*")
    assert 40 < client.command("TTL", key) <= 50


def test_late_ticket(access: Access, clock: Clock) -> None:
    ticket = access.issue_ticket(admitted(access))
    clock.now += 30
    with pytest.raises(TokenExpired):
        access.admit(ticket, None, "session")


def test_tickets_are_issued_by_jwt_alone(access: Access) -> None:
    by_ticket = access.admit(access.issue_ticket(admitted(access)), None, "session")
    by_key = access.admit_http(None, "key-of-acme", None)
    for other in (by_ticket, by_key, access.admit(None, None, "session"), Principal.system("acme")):
        with pytest.raises(Forbidden):
            access.issue_ticket(other)


def test_ticket_for_a_user_of_the_application(access: Access) -> None:
    ticket = access.issue_ticket_for("ann", ["acme", "beta"], scope="logs:read", name="Ann", session_seconds=900)
    principal = access.admit(ticket, "beta", "session")
    assert (principal.user_id, principal.tenant, principal.name) == ("ann", "beta", "Ann")
    assert (principal.permissions, principal.expires_at) == (frozenset({"logs:read"}), NOW + 900)
    assert access.admit(access.issue_ticket_for("ann", ["acme"]), None, "session").expires_at == NOW + 3600
    with pytest.raises(InvalidPayload):
        access.issue_ticket_for("ann", ["acme"], session_seconds=3601)


def test_tickets_off(client: RedisClient, clock: Clock) -> None:
    access = build(client, clock, tickets=Tickets(None))
    for attempt in (
        lambda: access.issue_ticket(admitted(access)),
        lambda: access.issue_ticket_for("ann", ["acme"]),
        lambda: access.admit("t_x", None, "session"),
    ):
        with pytest.raises(AuthenticationError, match="off"):
            attempt()


def test_http_by_token(access: Access) -> None:
    assert access.admit_http(token(tenants=["acme", "beta"]), None, "beta").tenant == "beta"


@pytest.mark.parametrize(("bearer", "wanted"), [(None, None), ("", None), (None, "default")])
def test_http_is_never_anonymous(access: Access, bearer: str | None, wanted: str | None) -> None:
    with pytest.raises(AuthenticationRequired):
        access.admit_http(bearer, None, wanted)


@pytest.mark.parametrize(("key", "tenant"), API_KEYS.items())
def test_api_key_has_all_permissions_in_its_tenant(access: Access, key: str, tenant: str) -> None:
    principal = access.admit_http(None, key, None)
    assert principal == access.admit_http(None, key, tenant) == access.admit_http("", key, "")
    assert (principal.tenant, principal.tenants, principal.kind) == (tenant, (tenant,), "api_key")
    assert (principal.permissions, principal.admin, principal.expires_at) == (ALL_PERMISSIONS, False, None)
    assert is_id(principal.user_id) and key not in principal.user_id
    with pytest.raises(TenantDenied):
        access.admit_http(None, key, "gamma")


@pytest.mark.parametrize("wrong", ["", "key-of-acm", "key-of-acme ", "KEY-OF-ACME", "é", "\ud800"])
def test_wrong_api_keys(access: Access, wrong: str) -> None:
    with pytest.raises(AuthenticationError) as refused:
        access.admit_http(None, wrong, None)
    assert refused.value.code == "authentication_failed"


def test_two_credentials_at_once_are_refused(access: Access) -> None:
    with pytest.raises(AuthenticationError, match="not both"):
        access.admit_http(token(), "key-of-acme", None)


def test_an_empty_api_key_stops_the_start(client: RedisClient, clock: Clock) -> None:
    with pytest.raises(ValueError, match="empty"):
        build(client, clock, api_keys={"": "acme"})


def test_refresh_prolongs_and_may_narrow(access: Access) -> None:
    before = admitted(access, tenants=["acme", "beta"], tenantId="acme", scope="logs:read logs:write admin")
    after = access.refresh(
        before, token(tenants=["beta", "acme"], exp=NOW + 900, scope="logs:read", jti="j2"), "session"
    )
    assert (after.user_id, after.tenant, after.expires_at) == ("u1", "acme", NOW + 900)
    assert (after.permissions, after.admin, after.token_id) == (frozenset({"logs:read"}), False, "j2")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"userId": "u2"}, Forbidden),
        ({"tenants": ["beta"]}, Forbidden),
        ({"tenants": None}, Forbidden),
        ({"scope": None}, Forbidden),
        ({"scope": "logs:read logs:write"}, Forbidden),
        ({"scope": "logs:read admin"}, Forbidden),
        ({"exp": NOW - 60}, TokenExpired),
    ],
)
def test_refresh_never_widens(access: Access, changes: dict[str, Any], error: type[Exception]) -> None:
    principal = admitted(access, scope="logs:read")
    with pytest.raises(error):
        access.refresh(principal, token(**{"scope": "logs:read", **changes}), "session")


@pytest.mark.parametrize("wrong", ["", "garbage", "t_garbage"])
def test_refresh_with_a_wrong_token(access: Access, wrong: str) -> None:
    with pytest.raises(AuthenticationError):
        access.refresh(admitted(access), wrong, "session")


def test_only_tokens_are_refreshed(access: Access) -> None:
    by_key = access.admit_http(None, "key-of-acme", None)
    for other in (access.admit(None, None, "session"), by_key, Principal.system("acme")):
        with pytest.raises(Forbidden):
            access.refresh(other, token(userId=other.user_id, tenants=[other.tenant]), "session")


def test_refresh_by_ticket_spends_it_after_all_checks(access: Access) -> None:
    principal = admitted(access)
    ticket = access.issue_ticket(principal)
    with pytest.raises(Forbidden):
        access.refresh(admitted(access, userId="u2"), ticket, "session-b")
    assert access.refresh(principal, ticket, "session-a").kind == "ticket"
    with pytest.raises(AuthenticationError, match="used before"):
        access.refresh(principal, ticket, "session-b")


def test_revoked_user_is_refused_everywhere_until_a_newer_token(access: Access, clock: Clock) -> None:
    principal = admitted(access)
    ticket = access.issue_ticket(principal)
    access.revoke(access.admit_http(None, "key-of-acme", None), user_id="u1")
    for attempt in (
        lambda: admitted(access),
        lambda: admitted(access, iat=None),
        lambda: access.admit_http(token(), None, None),
        lambda: access.admit(ticket, None, "session"),
        lambda: access.refresh(principal, token(), "session"),
    ):
        with pytest.raises(AuthenticationError, match="revoked"):
            attempt()
    clock.now += 10
    assert admitted(access, iat=NOW + 1).user_id == "u1"


def test_revoked_token_and_the_tickets_that_it_issued(access: Access) -> None:
    ticket = access.issue_ticket(admitted(access))
    access.revoke(admitted(access, userId="boss", jti="j2", scope="admin"), jti="j1")
    for revoked in (token(), ticket):
        with pytest.raises(AuthenticationError, match="revoked"):
            access.admit(revoked, None, "session")
    assert admitted(access, jti="j3").user_id == "u1"


def test_revocation_holds_in_the_callers_tenant_alone(access: Access) -> None:
    access.revoke(access.admit_http(None, "key-of-beta", None), user_id="u1")
    assert admitted(access).tenant == "acme"
    with pytest.raises(AuthenticationError, match="revoked"):
        admitted(access, tenants=["beta"])


def test_revocation_outlives_every_token_that_it_stops(access: Access, client: RedisClient) -> None:
    access.revoke(Principal.system("acme"), user_id="u1")
    access.revoke(Principal.system("acme"), jti="j1")
    keys = client.command("KEYS", "t0:{acme}:revoked:*")
    assert len(keys) == 2
    assert all(30 * DAY + 30 < client.command("TTL", key) <= 30 * DAY + 60 for key in keys)


def test_who_may_revoke(access: Access) -> None:
    by_ticket = access.admit(access.issue_ticket(admitted(access)), None, "session")
    for other in (admitted(access), by_ticket, access.admit(None, None, "session")):
        with pytest.raises(Forbidden):
            access.revoke(other, user_id="u1")


@pytest.mark.parametrize(
    "whom", [{}, {"user_id": "u1", "jti": "j1"}, {"user_id": "a\n"}, {"jti": ""}, {"jti": "x" * 257}], ids=repr
)
def test_revocations_refused(access: Access, whom: dict[str, str]) -> None:
    with pytest.raises(InvalidPayload):
        access.revoke(Principal.system("acme"), **whom)


def test_many_are_checked_again_in_their_order(access: Access) -> None:
    system = Principal.system("acme")
    others = [access.admit(None, None, "session"), access.admit_http(None, "key-of-acme", None), system]
    principals = [admitted(access, userId="u2"), *others, admitted(access)]
    access.revoke(system, user_id="u1")
    access.revoke(system, user_id="system")
    assert access.revoked(principals) == [False, False, False, False, True]
    assert access.revoked(others) == [False, False, False]


@pytest.mark.parametrize(
    ("body", "user_id", "jti"), [(b'{"userId":"u1"}', "u1", None), (b'{"jti":"urn:1"}', None, "urn:1")]
)
def test_revocation_request(body: bytes, user_id: str | None, jti: str | None) -> None:
    request = msgspec.json.decode(body, type=RevocationRequest)
    assert (request.user_id, request.jti) == (user_id, jti)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"userId":"u1","jti":"j1"}',
        b'{"userId":"a\\n"}',
        b'{"jti":""}',
        b'{"userId":"u1","x":1}',
        b'{"user_id":"u"}',
    ],
)
def test_revocation_requests_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=RevocationRequest)


def test_messages_of_the_session() -> None:
    assert msgspec.json.encode(TicketIssued("t_x", "2030-01-01T00:00:00.000Z")) == (
        b'{"ticket":"t_x","expiresAt":"2030-01-01T00:00:00.000Z"}'
    )
    for body in (b"{}", b'{"token":""}', b'{"token":7}', b'{"token":"x","tenantId":"acme"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(body, type=AuthRefresh)
