"""What became of an event for one client: each answer, from what nodes tell."""

import pytest

from mintflow_realtime.protocol.envelope import Offset
from mintflow_realtime.protocol.why import NodeTells, RoomStay, Stay
from mintflow_realtime.services.nodes.verdict import Numbered, judge

RUN = ("acme:run:r1",)
HEARD = 5000.0


def event(
    rooms: tuple[str, ...] = RUN, number: int = 10, except_sid: str = "", may_be_dropped: bool = True
) -> Numbered:
    return Numbered(Offset("e", number), 4990.0, rooms, except_sid, may_be_dropped)


def node(heard: float | None = HEARD, complete_from: float = 0, **more: object) -> NodeTells:
    return NodeTells(complete_from=complete_from, heard_at=heard, **more)  # type: ignore[arg-type]


def stay(**more: object) -> Stay:
    fields = {"sid": "s", "connected_at": 1000.0, "position": "e-2", "rooms": [RoomStay(room=RUN[0], since="e-3")]}
    return Stay(**{**fields, **more})  # type: ignore[arg-type]


DELIVERED = "delivered live at 1970-01-01T00:00:05.000Z"


@pytest.mark.parametrize(
    ("outcome", "sentence", "stays"),
    [
        ("delivered", DELIVERED, [stay()]),
        ("delivered", DELIVERED, [stay(closed_at=9000.0, closed="client disconnect", closed_position="e-10")]),
        ("delivered", DELIVERED, [stay(rooms=[RoomStay(room=RUN[0], since="e-3", until="e-10", until_at=HEARD)])]),
        ("not_connected", "came at 1970-01-01T00:00:01.000Z", [stay(position="e-10")]),
        ("not_connected", "fetch anew (gap)", [stay(position="e-10", resync="gap")]),
        (
            "not_connected",
            "closed at 1970-01-01T00:00:04.000Z (ping timeout)",
            [stay(closed_at=4000.0, closed="ping timeout", closed_position="e-9")],
        ),
        ("not_in_room", "not in the room", [stay(rooms=[])]),
        (
            "not_in_room",
            "left at 1970-01-01T00:00:04.000Z",
            [stay(rooms=[RoomStay(room=RUN[0], since="e-3", until="e-9", until_at=4000.0)])],
        ),
        (
            "not_in_room",
            "entered at 1970-01-01T00:00:06.000Z",
            [stay(rooms=[RoomStay(room=RUN[0], since="e-10", since_at=6000.0)])],
        ),
        ("not_in_room", "not in the room", [stay(rooms=[], told="e-9", told_at=4000.0)]),
        (
            "not_in_room",
            "not in the room; told at 1970-01-01T00:00:06.000Z that the log stood at e-12",
            [stay(rooms=[], told="e-12", told_at=6000.0)],
        ),
        ("delivered", DELIVERED, [stay(pauses=[(1000.0, 4999.0), (5001.0, 7000.0)])]),
        (
            "delivered",
            "delivered live by 1970-01-01T00:00:07.000Z: it read slowly from 1970-01-01T00:00:04.000Z on",
            [stay(pauses=[(4000.0, 7000.0)])],
        ),
        (
            "unknown",
            "handed to its connection at 1970-01-01T00:00:07.000Z",
            [stay(pauses=[(4000.0, 7000.0)], closed_at=66000.0, closed="ping timeout", closed_position="e-20")],
        ),
        ("dropped", "drop_oldest", [stay(dropped=[("e-4", "e-8"), ("e-9", "e-12")])]),
        ("delivered", DELIVERED, [stay(dropped=[("e-4", "e-8"), ("e-11", "e-12")])]),
        ("unknown", "waits to be sent", [stay(unsent="e-10")]),
        (
            "dropped",
            "before it was sent",
            [stay(unsent="e-9", closed_at=9000.0, closed="slow consumer", closed_position="e-20")],
        ),
        (
            "unknown",
            "perhaps before it arrived",
            [stay(closed_at=9000.0, closed="ping timeout", closed_position="e-20")],
        ),
        # Two connections of one client.
        (
            "replayed",
            "replayed at 1970-01-01T00:00:09.500Z",
            [
                stay(closed_at=9000.0, closed="transport close", closed_position="e-20"),
                stay(connected_at=9500.0, position="e-25", replayed_from="e-9"),
            ],
        ),
        (
            "delivered",
            DELIVERED,
            [
                stay(closed_at=9000.0, closed="transport close", closed_position="e-20"),
                stay(connected_at=9500.0, position="e-25", replayed_from="e-10"),
            ],
        ),
        (
            "delivered",
            "it had this when it came back",
            [stay(connected_at=9500.0, position="e-25", replayed_from="e-10")],
        ),
        (
            "dropped",
            "drop_oldest",
            [
                stay(dropped=[("e-9", "e-12")], closed_at=9000.0, closed="transport close", closed_position="e-20"),
                stay(connected_at=9500.0, position="e-25", replayed_from="e-20"),
            ],
        ),
        (
            "replayed",
            "when it came back",
            [
                stay(closed_at=4000.0, closed="transport close", closed_position="e-9"),
                stay(connected_at=9500.0, position="e-25", replayed_from="e-9"),
            ],
        ),
        (
            "not_in_room",
            "not in the room",
            [stay(connected_at=9500.0, position="e-25", replayed_from="e-9", rooms=[])],
        ),
        (
            "not_connected",
            "closed at",
            [
                stay(closed_at=4000.0, closed="transport close", closed_position="e-9"),
                stay(connected_at=9500.0, position="e-25"),
            ],
        ),
    ],
)
def test_each_answer(outcome: str, sentence: str, stays: list[Stay]) -> None:
    found = judge(event(), [(one, node()) for one in stays])
    assert found.outcome == outcome and sentence in found.sentence, found


def test_the_tenants_room_is_everybodys_who_is_connected() -> None:
    assert judge(event(("acme:",)), [(stay(rooms=[]), node())]).outcome == "delivered"


def test_a_full_state_stands_for_a_delta() -> None:
    of = event(("acme:workspace-deltas:w",))
    assert of.relevant_rooms == ["acme:workspace-deltas:w", "acme:workspace-states:w"]
    here = stay(rooms=[RoomStay(room="acme:workspace-states:w", since="e-3")])
    assert judge(of, [(here, node())]).outcome == "delivered"


def test_who_acted_was_answered() -> None:
    assert "own command" in judge(event(except_sid="s"), [(stay(), node())]).sentence


def test_what_a_node_has_not_heard() -> None:
    assert judge(event(), [(stay(), node(heard=None))]).outcome == "unknown"
    lost = judge(event(), [(stay(), node(heard=None, lost=(6000.0, "gap")))])
    assert lost.outcome == "dropped" and "fetch anew at 1970-01-01T00:00:06.000Z (gap)" in lost.sentence
    assert judge(event(), [(stay(), node(heard=None, lost=(3000.0, "gap")))]).outcome == "unknown"


def test_what_is_forgotten_is_not_guessed() -> None:
    here = stay(position="", rooms=[])
    assert judge(event(), [(here, node(complete_from=8000.0))]).outcome == "unknown"
    assert judge(event(), [(here, node(complete_from=2000.0))]).outcome == "not_in_room"


def test_what_can_not_be_dropped_was_not() -> None:
    assert judge(event(may_be_dropped=False), [(stay(dropped=[("e-9", "e-12")]), node())]).outcome == "delivered"


def test_another_epoch_is_judged_by_the_nodes_clock() -> None:
    for at, outcome in ((4000.0, "delivered"), (6000.0, "not_connected")):
        here = stay(position="before-900", connected_at=at, rooms=[RoomStay(room=RUN[0])])
        assert judge(event(), [(here, node())]).outcome == outcome
    assert judge(event(), [(stay(position="0-0", rooms=[RoomStay(room=RUN[0])]), node())]).outcome == "delivered"
