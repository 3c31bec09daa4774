"""Names of rooms: tenant first, no two the same, and none with the form of a sid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.fanout.deliver.membership import is_sid
from mintflow_realtime.fanout.rooms import (
    LEVELS,
    feed_audience,
    feed_room,
    flow_audience,
    flow_rooms,
    of_tenant,
    own_room,
    tenant_room,
)
from mintflow_realtime.protocol.errors import InvalidPayload
from mintflow_realtime.protocol.ids import ID_PATTERN, TENANT_PATTERN
from mintflow_realtime.protocol.logs import LEVELS as WIRE_LEVELS

TENANTS = st.from_regex(TENANT_PATTERN)
IDS = st.from_regex(ID_PATTERN) | st.text(alphabet="ab:/{}~%=é", min_size=1, max_size=255)
MAYBE = st.none() | IDS
LEVEL = st.sampled_from(LEVELS)


def test_levels_are_those_of_the_wire() -> None:
    assert LEVELS == WIRE_LEVELS


@given(TENANTS, IDS, IDS, LEVEL)
def test_no_two_rooms_of_a_tenant_are_the_same_and_none_looks_like_a_sid(
    tenant: str, flow: str, run: str, level: str
) -> None:
    rooms = [
        tenant_room(tenant),
        own_room(tenant, flow),
        *flow_rooms(tenant, flow, None),
        *flow_rooms(tenant, None, run),
        *flow_rooms(tenant, flow, run),
        *(feed_room(tenant, f, r, level) for f in (None, flow) for r in (None, run)),
    ]
    assert len(set(rooms)) == len(rooms)
    assert all(room.startswith(tenant + ":") and of_tenant(room) and not is_sid(room) for room in rooms)


@given(st.tuples(TENANTS, MAYBE, MAYBE, LEVEL), st.tuples(TENANTS, MAYBE, MAYBE, LEVEL))
def test_feeds_are_the_same_only_for_the_same_criteria(
    one: tuple[str, str | None, str | None, str], other: tuple[str, str | None, str | None, str]
) -> None:
    assert (feed_room(*one) == feed_room(*other)) is (one == other)


@given(TENANTS, MAYBE, MAYBE, LEVEL, MAYBE, MAYBE, st.none() | LEVEL)
def test_a_record_goes_to_the_feeds_that_ask_for_it(
    tenant: str,
    flow: str | None,
    run: str | None,
    level: str,
    asked_flow: str | None,
    asked_run: str | None,
    least: str | None,
) -> None:
    audience = feed_audience(tenant, flow, run, level)
    assert len(audience) == len(set(audience)) <= 16
    asked = feed_room(tenant, asked_flow, asked_run, least)
    matches = (
        asked_flow in (None, flow)
        and asked_run in (None, run)
        and LEVELS.index(level) >= LEVELS.index(least or "debug")
    )
    assert (asked in audience) is matches


def test_what_happens_inside_a_run_does_not_go_to_the_whole_tenant() -> None:
    inside = flow_audience("acme", "f", "r", whole_tenant=False)
    assert inside == ("acme:flow:f", "acme:run:r", "acme:flow-run:f/r")
    assert flow_audience("acme", "f", "r", whole_tenant=True) == ("acme:", *inside)


@pytest.mark.parametrize("room", ["", "a\n", "\ud800", None, 1, "a" * 256])
def test_an_own_room_is_an_id(room: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        own_room("acme", room)
    assert refused.value.details["path"] == "$.room"


@pytest.mark.parametrize("room", [None, "lobby", "0123abcdABCDEFGHIJKLMNOPQRST", ["acme:"], 1])
def test_what_is_no_tenants_room(room: object) -> None:
    assert not of_tenant(room)


def test_an_own_rooms_id_is_encoded() -> None:
    assert own_room("acme", "board-1") == "acme:own:board-1"
    assert own_room("acme", "a:b/c") == "acme:own:~a%3Ab%2Fc"
