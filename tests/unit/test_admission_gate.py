"""The gate: who is let in, into which rooms, and whose connection is closed when a token ends or is revoked."""

import time
from typing import Any

import pytest

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.namespaces.base import Namespace
from mintflow_realtime.protocol.errors import AuthenticationError, Forbidden, TenantDenied, TokenExpired, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.house import House
from tests.servers import token

REFUSED = {"/logs": "flows:read", "/flows": "logs:read"}


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


def admit(house: House, namespace: str = "/logs", auth: Any = None, connection: str = "e1") -> str:
    """Bring a client as far as the transport does before it sends CONNECT; return its sid."""
    sid = house.manager.pre_connect(connection, namespace)
    house.gate.admit(connection, sid, namespace, {"QUERY_STRING": ""}, auth)
    house.manager.connect(sid, namespace)
    house.gate.joined(sid, namespace)
    return str(sid)


def test_who_is_let_in_enters_its_tenants_rooms(house: House) -> None:
    sid = admit(house, "/logs", {"token": token("ann")})
    client = house.gate.clients.get(sid, "/logs")
    assert client and (client.principal.user_id, client.principal.tenant, client.connection) == ("ann", "acme", "e1")
    assert sorted(house.manager.get_rooms(sid, "/logs")) == sorted([sid, "acme:", "acme:feed://debug"])
    assert house.channels.open_now == {("acme", "/logs"): 1}
    house.gate.left(sid, "/logs")
    house.gate.left(sid, "/logs")
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


def test_rooms_are_entered_after_connect_alone(house: House) -> None:
    sid = house.manager.pre_connect("e1", "/flows")
    house.gate.admit("e1", sid, "/flows", {"QUERY_STRING": ""}, None)
    assert house.manager.get_rooms(sid, "/flows") == [sid]


def test_one_who_left_before_joined_enters_nothing(house: House) -> None:
    house.gate.joined("0" * 28, "/logs")
    assert house.manager.rooms == {}


@pytest.mark.parametrize("namespace", ["/logs", "/flows"])
def test_a_namespace_needs_its_read_scope(house: House, namespace: str) -> None:
    with pytest.raises(Forbidden):
        admit(house, namespace, {"token": token("ann", scope=REFUSED[namespace])})
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}
    admit(house, "/", {"token": token("ann", scope="")}, "e2")


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        ({"token": "garbage"}, AuthenticationError),
        ({"token": token("ann", exp=1)}, TokenExpired),
        ({"token": token("ann"), "tenantId": "other"}, TenantDenied),
        ({"tenantId": "other"}, TenantDenied),
    ],
)
def test_who_is_not_let_in_leaves_nothing(house: House, auth: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        admit(house, "/logs", auth)
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


def test_a_tenant_that_cannot_be_heard_is_no_refusal(house: House) -> None:
    house.channels.error = Unavailable("deaf")
    with pytest.raises(Unavailable):
        admit(house)
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


def test_redis_silent_at_the_last_check_is_no_refusal_and_leaves_nothing(keys: Keys) -> None:
    house = House(RedisClient(connect("redis://127.0.0.1:1/0")), keys)
    with pytest.raises(Unavailable):
        admit(house, auth={"token": token("ann")})
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


@pytest.mark.parametrize("error", [Unavailable("silent"), LookupError("a fault")])
def test_a_last_check_that_fails_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(house.access, "revoked", fail)
    with pytest.raises(type(error)):
        admit(house, auth=None)
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


def test_one_who_is_revoked_while_connecting_is_not_let_in(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.access, "revoked", lambda principals: [True] * len(principals))
    with pytest.raises(Unavailable):
        admit(house, auth={"token": token("ann")})
    assert len(house.gate.clients) == 0 and house.channels.open_now == {}


def test_a_token_that_ends_is_warned_of_and_its_connection_closed(house: House) -> None:
    now = time.time()
    sid = admit(house, "/logs", {"token": token("ann", exp=int(now) + 120)})
    admit(house, "/flows", None, "e2")
    house.gate.tick()
    assert house.hall.sent == {} and house.closed == []
    house.now = now + 61
    house.gate.tick()
    house.gate.tick()
    ((name, payload),) = house.hall.heard("e1")
    assert name == "auth_expiring" and payload["expiresAt"].endswith("Z")
    house.now = now + 200
    house.gate.tick()
    assert house.closed == [("e1", "token expired")]
    assert house.gate.clients.get(sid, "/logs") is not None


def test_a_refreshed_token_is_not_closed_when_the_old_one_ends(house: House) -> None:
    now = time.time()
    sid = admit(house, "/logs", {"token": token("ann", exp=int(now) + 120)})
    client = house.gate.clients.get(sid, "/logs")
    assert client
    assert house.did(client, "auth_refresh", {"token": token("ann", exp=int(now) + 1000)})["expiresAt"]
    house.now = now + 500
    house.gate.tick()
    assert house.closed == []


def expiries(house: House, *places: tuple[str, str]) -> list[float]:
    clients = [house.gate.clients.get(sid, namespace) for sid, namespace in places]
    return [client.principal.expires_at or 0 for client in clients if client is not None]


def test_a_refresh_holds_for_the_other_namespaces_that_came_with_the_same_token(house: House) -> None:
    """Otherwise the old token, which still ends in them, would close the connection that was refreshed."""
    now = int(time.time())
    old, newer = token("ann", exp=now + 120), token("ann", exp=now + 1000, iat=now)
    logs, flows, root = (admit(house, namespace, {"token": old}) for namespace in ("/logs", "/flows", "/"))
    client = house.gate.clients.get(logs, "/logs")
    assert client
    house.did(client, "auth_refresh", {"token": newer})
    assert expiries(house, (logs, "/logs"), (flows, "/flows"), (root, "/")) == [now + 1000] * 3
    house.now = now + 500
    house.gate.tick()
    assert house.closed == [] and house.hall.sent == {}
    house.now = now + 1001
    house.gate.tick()
    assert house.closed == [("e1", "token expired")] * 3


def test_a_refresh_says_nothing_of_those_who_came_with_another_token(house: House) -> None:
    now = int(time.time())
    both, exp = ["acme", "other"], now + 120
    old = token("ann", both, exp=exp)
    logs = admit(house, "/logs", {"token": old, "tenantId": "acme"})
    others = [
        (admit(house, "/flows", {"token": old, "tenantId": "other"}), "/flows"),
        (admit(house, "/", {"token": token("ann", both, exp=exp, jti="another"), "tenantId": "acme"}), "/"),
        (admit(house, "/logs", {"token": old, "tenantId": "acme"}, "e2"), "/logs"),
    ]
    client = house.gate.clients.get(logs, "/logs")
    assert client
    house.did(client, "auth_refresh", {"token": token("ann", both, exp=now + 1000)})
    assert expiries(house, (logs, "/logs"), *others) == [now + 1000, exp, exp, exp]
    house.now = now + 500
    house.gate.tick()
    assert sorted(house.closed) == [("e1", "token expired")] * 2 + [("e2", "token expired")]


def test_a_refresh_by_a_token_that_cannot_read_the_namespace_is_refused(house: House) -> None:
    now = int(time.time())
    sid = admit(house, "/logs", {"token": token("ann", scope="logs:read flows:read", exp=now + 120)})
    client = house.gate.clients.get(sid, "/logs")
    assert client
    before = client.principal
    with pytest.raises(Forbidden):
        house.gate.refresh(client, token("ann", scope="flows:read", exp=now + 1000))
    narrower = token("ann", scope="", exp=now + 1000)
    assert house.refused(client, "auth_refresh", {"token": narrower}) == "forbidden"
    assert client.principal == before
    house.now = now + 121
    house.gate.tick()
    assert house.closed == [("e1", "token expired")]


def test_a_namespace_that_the_newer_token_cannot_read_keeps_the_old_one(house: House) -> None:
    now = int(time.time())
    old = token("ann", scope="logs:read flows:read", exp=now + 120)
    logs, flows, root = (admit(house, namespace, {"token": old}) for namespace in ("/logs", "/flows", "/"))
    client, sibling = house.gate.clients.get(logs, "/logs"), house.gate.clients.get(flows, "/flows")
    assert client and sibling
    house.did(client, "auth_refresh", {"token": token("ann", scope="logs:read", exp=now + 1000)})
    assert expiries(house, (logs, "/logs"), (flows, "/flows"), (root, "/")) == [now + 1000, now + 120, now + 1000]
    assert sibling.principal.permissions == {"logs:read", "flows:read"}
    house.now = now + 500
    house.gate.tick()
    assert house.closed == [("e1", "token expired")]


def test_a_revoked_users_connections_are_closed_in_that_tenant_alone(house: House) -> None:
    for number, (user, tenant) in enumerate((("ann", "acme"), ("bob", "acme"), ("ann", "other"))):
        admit(house, "/logs", {"token": token(user, [tenant])}, f"e{number}")
    admit(house, "/flows", {"token": token("ann")}, "e3")
    admit(house, "/flows", None, "e4")
    admin = house.access.admit(token("root", scope="admin"), "acme", "e9")
    house.access.revoke(admin, user_id="ann")
    house.gate.recheck_revocations("other")
    house.gate.tick()
    assert house.closed == []
    house.gate.recheck_revocations("acme")
    house.gate.recheck_revocations("acme")
    house.gate.tick()
    assert sorted(house.closed) == [("e0", "revoked"), ("e3", "revoked")]
    house.closed.clear()
    house.gate.tick()
    assert house.closed == []


def test_a_doubt_that_cannot_be_settled_now_is_settled_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    admit(house, "/logs", {"token": token("ann")})
    real, silent = house.access.revoked, [True]

    def revoked(principals: Any) -> Any:
        if silent.pop() if silent else False:
            raise Unavailable("silent")
        return [True] * len(principals) if principals else real(principals)

    monkeypatch.setattr(house.access, "revoked", revoked)
    house.gate.recheck_revocations("acme")
    house.gate.tick()
    assert house.closed == []
    house.gate.tick()
    assert house.closed == [("e1", "revoked")]


def test_a_namespace_is_told_of_its_clients_coming_and_going(house: House) -> None:
    class Told(Namespace):
        def __init__(self) -> None:
            super().__init__("/told")
            self.log: list[str] = []

        def joined(self, client: Client) -> None:
            self.log.append("joined")

        def left(self, client: Client) -> None:
            self.log.append("left")
            raise Unavailable("silent")

    told = Told()
    house.serve(told)
    sid = admit(house, "/told")
    house.gate.left(sid, "/told")
    assert told.log == ["joined", "left"] and house.channels.open_now == {}


def test_one_connection_that_cannot_be_closed_does_not_keep_the_others_open(house: House) -> None:
    now = time.time()
    for number in range(3):
        admit(house, "/logs", {"token": token("ann", exp=int(now) + 120)}, f"e{number}")
    closed: list[str] = []

    def close(connection: str, reason: str) -> None:
        if not closed:
            closed.append("failed")
            raise LookupError("a fault")
        closed.append(connection)

    house.gate._close_transport = close
    house.now = now + 500
    for _ in range(3):
        try:
            house.gate.tick()
        except LookupError:
            continue
    assert len(closed) == 3 and closed[0] == "failed"
