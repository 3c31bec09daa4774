"""Tickets: what they carry, how long they may be shown, and what they are signed with."""

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st
from itsdangerous import SignatureExpired, TimestampSigner, URLSafeTimedSerializer

from mintflow_realtime.auth.claims import Claims
from mintflow_realtime.auth.tickets import Tickets, is_ticket, session_claims, ticket_key
from mintflow_realtime.protocol.errors import AuthenticationError, InvalidPayload, TokenExpired, TooLarge
from mintflow_realtime.protocol.times import iso

SECRET = b"a ticket secret of at least 32 bytes"
JWT_SECRET = "0123456789abcdef0123456789abcdef-test"
PUBLIC_PEM = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ\n-----END PUBLIC KEY-----\n"
NOW = 1_900_000_000.25
FULL = Claims("u1", ("acme", "beta"), "beta", "Ann Ünlü", "logs:read admin", NOW + 600, NOW - 5, "j:1")
BARE = Claims("u1", ("acme",), None, None, None, NOW + 600, None, None)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets(SECRET, clock)


@pytest.mark.parametrize("claims", [FULL, BARE])
def test_ticket_carries_all_claims(tickets: Tickets, claims: Claims) -> None:
    ticket = tickets.issue(claims)
    assert is_ticket(ticket) and ticket.isascii()
    assert ticket.expires_at == iso(int(NOW) * 1000 + 30_000)
    assert tickets.verify(ticket).claims == claims


def test_ids_are_128_random_bits_each(tickets: Tickets) -> None:
    ids = {tickets.verify(tickets.issue(BARE)).id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(ticket_id) == 22 for ticket_id in ids)


@pytest.mark.parametrize(("seconds", "valid"), [(-11, False), (-9.9, True), (0, True), (29.7, True), (29.75, False)])
def test_ticket_may_be_shown_for_30_seconds(tickets: Tickets, clock: Clock, seconds: float, valid: bool) -> None:
    ticket = tickets.issue(BARE)
    clock.now = NOW + seconds
    if valid:
        assert tickets.verify(ticket).claims == BARE
    else:
        with pytest.raises(TokenExpired if seconds > 0 else AuthenticationError):
            tickets.verify(ticket)


def test_clock_of_another_node_a_little_behind_which_stock_itsdangerous_refuses(clock: Clock) -> None:
    class Ahead(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() + 5

    stock = URLSafeTimedSerializer(SECRET, signer=Ahead).dumps("x")
    with pytest.raises(SignatureExpired):
        URLSafeTimedSerializer(SECRET).loads(stock, max_age=30)
    ticket = Tickets(SECRET, lambda: NOW + 5).issue(BARE)
    assert Tickets(SECRET, clock).verify(ticket).claims == BARE


def test_ticket_ends_with_its_token(tickets: Tickets, clock: Clock) -> None:
    ticket = tickets.issue(BARE._replace(exp=NOW + 10))
    assert ticket.expires_at == iso(round((NOW + 10) * 1000))
    clock.now = NOW + 10
    with pytest.raises(TokenExpired):
        tickets.verify(ticket)


def test_wrong_signatures_are_refused(tickets: Tickets, clock: Clock) -> None:
    ticket = tickets.issue(BARE)
    body, _, signature = ticket.rpartition(".")
    flipped = "A" if signature[0] != "A" else "B"
    # Same secret, clock and content, but signed for another purpose.
    assert tickets._serializer is not None
    content = ["id", "u1", ["acme"], None, None, None, NOW + 60, None, None]
    assert tickets.verify("t_" + str(tickets._serializer.dumps(content))).id == "id"
    for wrong in (
        f"{body}.{flipped}{signature[1:]}",
        body,
        ticket[:-1],
        ticket + "x",
        ticket[2:],
        "T" + ticket[1:],
        Tickets(b"another secret of at least 32 byte", clock).issue(BARE),
        "t_" + str(tickets._serializer.dumps(content, salt=b"session")),
    ):
        with pytest.raises(AuthenticationError):
            tickets.verify(wrong)


@pytest.mark.parametrize(
    "content", [[], {}, None, "text", ["id"], ["id", 7, ["acme"], None, None, None, NOW + 60, None, None]]
)
def test_signed_content_of_another_shape_is_refused(tickets: Tickets, content: Any) -> None:
    assert tickets._serializer is not None
    with pytest.raises(AuthenticationError):
        tickets.verify("t_" + str(tickets._serializer.dumps(content)))


def test_without_a_secret_tickets_are_off() -> None:
    off = Tickets(None)
    with pytest.raises(AuthenticationError, match="off"):
        off.issue(BARE)
    with pytest.raises(AuthenticationError, match="off"):
        off.verify("t_anything")


def test_longest_ticket(tickets: Tickets) -> None:
    many = tuple(hashlib.sha256(bytes([place % 256, place // 256])).hexdigest() for place in range(300))
    with pytest.raises(TooLarge):
        tickets.issue(BARE._replace(tenants=many))
    with pytest.raises(AuthenticationError):
        tickets.verify("t_" + "x" * 8192)


def test_key_is_the_ticket_secret_else_derived_from_the_jwt_secret() -> None:
    assert ticket_key("own secret", JWT_SECRET) == b"own secret"
    derived = ticket_key(None, JWT_SECRET)
    assert derived is not None and len(derived) == 32
    assert derived == ticket_key("", JWT_SECRET)
    assert JWT_SECRET.encode() not in derived
    assert ticket_key(None, None) is None and ticket_key("", "") is None


@pytest.mark.parametrize(("own", "of_jwt"), [(PUBLIC_PEM, None), (None, PUBLIC_PEM), ("own secret", PUBLIC_PEM)])
def test_a_public_key_never_signs(own: str | None, of_jwt: str | None) -> None:
    with pytest.raises(ValueError, match="can't be signed"):
        ticket_key(own, of_jwt)


def test_session_claims() -> None:
    assert session_claims("u1", ["acme", "acme"], "logs:read", "Ann", 60, NOW) == Claims(
        "u1", ("acme",), None, "Ann", "logs:read", NOW + 60, NOW, None
    )


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"user_id": "a\n"}, "$.userId"),
        ({"user_id": None}, "$.userId"),
        ({"tenants": "acme"}, "$.tenants"),
        ({"tenants": []}, "$.tenants"),
        ({"tenants": ["acme", "-"]}, "$.tenants[1]"),
        ({"scope": ["logs:read"]}, "$.scope"),
        ({"name": 7}, "$.name"),
        ({"seconds": 0}, "$.sessionSeconds"),
        ({"seconds": 3600.1}, "$.sessionSeconds"),
        ({"seconds": float("nan")}, "$.sessionSeconds"),
    ],
)
def test_session_claims_refused(changes: dict[str, Any], path: str) -> None:
    arguments: dict[str, Any] = {"user_id": "u1", "tenants": ["acme"], "scope": None, "name": None, "seconds": 3600}
    with pytest.raises(InvalidPayload) as refused:
        session_claims(**{**arguments, **changes}, now=NOW)
    assert refused.value.details["path"] == path


@settings(deadline=None)
@given(st.text())
@example("")
@example("t_")
@example("t_.")
@example("t_..")
@example("t_.a.b.c")
@example("t_\ud800")
@example("t_" + "A" * 4000 + "." + "_" * 4000 + ".A")
def test_garbage_is_refused_and_nothing_else(garbage: str) -> None:
    tickets = Tickets(SECRET, Clock())
    for shown in (garbage, "t_" + garbage):
        with pytest.raises(AuthenticationError):
            tickets.verify(shown)


def test_a_ticket_is_text_wherever_it_is_put(tickets: Tickets) -> None:
    ticket = tickets.issue(BARE)
    assert isinstance(ticket, str) and json.loads(json.dumps({"ticket": ticket})) == {"ticket": str(ticket)}
    assert Flask("shop").json.dumps(ticket) == f'"{ticket}"' and f"{ticket}".startswith("t_")
    for copied in (copy.deepcopy(ticket), pickle.loads(pickle.dumps(ticket))):
        assert copied == ticket and copied.expires_at == ticket.expires_at
