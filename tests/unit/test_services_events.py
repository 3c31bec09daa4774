"""The durable door for namespaces of one's own: to whom, what is refused, and repeats."""

from typing import Any

import pytest

from mintflow_realtime.protocol.errors import Conflict, InvalidPayload, TooLarge, Unavailable
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.events import MAX_NAME, Events
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from tests.house import House


@pytest.fixture
def house(runner: RedisClient, keys: Keys) -> House:
    return House(runner, keys)


def test_an_event_goes_to_a_tenants_clients_or_to_those_in_a_room(house: House) -> None:
    for connection, tenant, rooms in (("e1", "acme", ["acme:own:lobby"]), ("e2", "acme", []), ("e3", "other", [])):
        house.hall.connect(connection, "/board", f"{tenant}:", *rooms)
    first = house.events.publish("acme", "/board", "moved", {"x": []})
    second = house.events.publish("acme", "/board", "moved", None, room="lobby")
    house.hear("/board")
    assert house.hall.heard("e1") == [("moved", {"x": []}), ("moved", None)]
    assert house.hall.heard("e2") == [("moved", {"x": []})] and "e3" not in house.hall.sent
    assert (first.offset[-2:], second.offset[-2:]) == ("-1", "-2")


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant": ""},
        {"tenant": "-"},
        {"tenant": None},
        {"namespace": "board"},
        {"namespace": ""},
        {"namespace": "/a,b"},
        {"namespace": "/logs"},
        {"namespace": "/flows"},
        {"namespace": "/workspaces"},
        {"namespace": "/ai"},
        {"namespace": "/" + "x" * MAX_NAME},
        {"namespace": None},
        {"namespace": 1},
        {"event": ""},
        {"event": "connect"},
        {"event": "disconnect"},
        {"event": "connect_error"},
        {"event": "x" * (MAX_NAME + 1)},
        {"event": None},
        {"room": "a\n"},
        {"room": ""},
        {"room": 1},
        {"data": object()},
        {"data": {None: 1}},
        {"idempotency_key": ""},
    ],
)
def test_whatever_is_wrong_is_named(house: House, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload):
        house.events.publish(**{"tenant": "acme", "namespace": "/board", "event": "e", "data": 1, **wrong})


def test_endless_nesting_and_too_much_are_refused(house: House) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidPayload):
        house.events.publish("acme", "/board", "e", endless)
    with pytest.raises(TooLarge):
        house.events.publish("acme", "/board", "e", "x" * 1_000_000)


def test_a_repeat_is_for_the_same_event_alone(house: House) -> None:
    first = house.events.publish("acme", "/board", "e", {"a": 1}, idempotency_key="k")
    assert house.events.publish("acme", "/board", "e", {"a": 1}, idempotency_key="k").offset == first.offset
    for other in (("/board", "e", {"a": 2}), ("/board", "f", {"a": 1})):
        with pytest.raises(Conflict):
            house.events.publish("acme", *other, idempotency_key="k")
    with pytest.raises(Conflict):
        house.events.publish("acme", "/board", "e", {"a": 1}, room="r", idempotency_key="k")
    assert not house.events.publish("acme", "/other", "e", {"a": 1}, idempotency_key="k").repeated


def test_without_redis_it_is_unavailable(keys: Keys) -> None:
    events = Events(House(RedisClient(connect("redis://127.0.0.1:1/0")), keys).publisher)
    with pytest.raises(Unavailable):
        events.publish("acme", "/board", "e", 1)
