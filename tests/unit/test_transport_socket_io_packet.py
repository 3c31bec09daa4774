"""Socket.IO packets from their texts and to them: the tables of the protocol document, and nothing beyond them."""

import json
from typing import Any

import pytest

from mintflow_realtime.protocol import wire_json
from mintflow_realtime.transport.engine_io.message import Message
from mintflow_realtime.transport.socket_io.packet import (
    MAX_ATTACHMENTS,
    Incoming,
    Partial,
    Reply,
    decode,
    encode,
    has_bytes,
)

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)
PLACE = {"_placeholder": True, "num": 0}


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        # "Packet encoding", with the examples of the document.
        ("0", Incoming(CONNECT, 0, "/", None, None)),
        ('0{"token":"123"}', Incoming(CONNECT, 0, "/", None, {"token": "123"})),
        ('0/admin,{"token":"123"}', Incoming(CONNECT, 0, "/admin", None, {"token": "123"})),
        ("0/admin,", Incoming(CONNECT, 0, "/admin", None, None)),
        ("0/admin", Incoming(CONNECT, 0, "/admin", None, None)),
        ('0/admin?a=b&d=/x?,{"x":1}', Incoming(CONNECT, 0, "/admin", None, {"x": 1})),
        ("0/admin?token=1,", Incoming(CONNECT, 0, "/admin", None, None)),
        ("1", Incoming(DISCONNECT, 0, "/", None, None)),
        ("1/admin,", Incoming(DISCONNECT, 0, "/admin", None, None)),
        ('2["hello",1]', Incoming(EVENT, 0, "/", None, ["hello", 1])),
        ('2/admin,456["project:delete",123]', Incoming(EVENT, 0, "/admin", 456, ["project:delete", 123])),
        ('20["e"]', Incoming(EVENT, 0, "/", 0, ["e"])),
        ('2["12-","/a,"]', Incoming(EVENT, 0, "/", None, ["12-", "/a,"])),
        ('2/ns, ["e"]', Incoming(EVENT, 0, "/ns", None, ["e"])),
        (f'2{2**63}["e"]', Incoming(EVENT, 0, "/", 2**63, ["e"])),
        ("3/admin,456[]", Incoming(ACK, 0, "/admin", 456, [])),
        ('313["a",{}]', Incoming(ACK, 0, "/", 13, ["a", {}])),
        ('51-["hello",{"_placeholder":true,"num":0}]', Incoming(BINARY_EVENT, 1, "/", None, ["hello", PLACE])),
        ('51-/admin,456["e",{"_placeholder":true,"num":0}]', Incoming(BINARY_EVENT, 1, "/admin", 456, ["e", PLACE])),
        ('50-["e"]', Incoming(BINARY_EVENT, 0, "/", None, ["e"])),
        (f'5{MAX_ATTACHMENTS}-["e"]', Incoming(BINARY_EVENT, MAX_ATTACHMENTS, "/", None, ["e"])),
        ('61-/admin,456[{"_placeholder":true,"num":0}]', Incoming(BINARY_ACK, 1, "/admin", 456, [PLACE])),
    ],
)
def test_packets_of_clients(text: str, packet: Incoming) -> None:
    assert decode(text, json.loads) == packet


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "9",
        "x",
        " 2",
        "-1",
        "²",
        # CONNECT carries an object or nothing; DISCONNECT nothing; CONNECT_ERROR is the server's.
        "0[]",
        '0"x"',
        "01",
        "0/ns,1{}",
        '1{"a":1}',
        "1/ns,[]",
        "11",
        '4{"message":"x"}',
        "4",
        "4/ns,",
        # An event is a list that begins with its name.
        "2",
        "2/ns,",
        "2/ns",
        "2{}",
        "2[]",
        "2[1]",
        "2[null]",
        "2[[]]",
        '2"e"',
        '2["e"',
        '2["e"]x',
        "2null",
        f'2{10**20}["e"]',
        '2-1["e"]',
        '21-["e"]',
        # An ack carries an id and a list.
        "3[]",
        "31",
        "31{}",
        '31"x"',
        # Attachments: of binary packets alone, counted, at most ten.
        '5["e"]',
        "5",
        '5-["e"]',
        f'5{MAX_ATTACHMENTS + 1}-["e"]',
        '59999999999-["e"]',
        '599999999999999-["e"]',
        '5x-["e"]',
        "61-[]",
        "61-7{}",
        "6",
    ],
)
def test_what_no_client_may_send(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text, json.loads)


def test_numbers_and_names_are_of_ascii() -> None:
    with pytest.raises(ValueError):
        decode('2١["e"]', json.loads)
    assert decode('2/grüße,["é"]', json.loads) == Incoming(EVENT, 0, "/grüße", None, ["é"])


def test_a_long_packet_is_read_once() -> None:
    """The head is matched from the start alone: no search through a megabyte."""
    text = '2["e","' + "1" * 1_000_000 + '"]'
    assert decode(text, json.loads).data[1] == "1" * 1_000_000
    with pytest.raises(ValueError):
        decode("2" + "1" * 1_000_000, json.loads)


# Attachments of a client


def attached(data: Any, *parts: bytes, limit: int = 1000) -> Any:
    partial = Partial(Incoming(BINARY_EVENT, len(parts), "/", None, data), limit)
    done = [partial.add(part) for part in parts]
    assert done == [False] * (len(parts) - 1) + [True]
    return partial.whole().data


def place(number: object, flag: object = True) -> dict[str, object]:
    return {"_placeholder": flag, "num": number}


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (["e", place(0), place(1)], ["e", b"a", b"bc"]),
        (["e", {"x": [place(1), {"y": place(0)}]}], ["e", {"x": [b"bc", {"y": b"a"}]}]),
        (["e", place(0), place(0)], ["e", b"a", b"a"]),
        (["e", place(0, False), place(0, 1), {"num": 0}], ["e", place(0, False), place(0, 1), {"num": 0}]),
        (["e"], ["e"]),
    ],
)
def test_attachments_go_where_their_placeholders_are(data: Any, whole: Any) -> None:
    assert attached(data, b"a", b"bc") == whole


@pytest.mark.parametrize("number", [2, -1, 1.0, "0", None, True, 10**30])
def test_a_placeholder_names_an_attachment(number: object) -> None:
    with pytest.raises(ValueError):
        attached(["e", place(number)], b"a", b"bc")
    with pytest.raises(ValueError):
        attached(["e", {"_placeholder": True}], b"a")


def test_a_long_packet_is_filled_with_pauses() -> None:
    pauses: list[int] = []
    data = ["e", [[] for _ in range(3000)], place(0)]
    partial = Partial(Incoming(BINARY_EVENT, 1, "/", None, data), 10)
    partial.add(b"x")
    assert partial.whole(lambda: pauses.append(1)).data[2] == b"x" and len(pauses) > 3


def test_attachments_are_bounded_together() -> None:
    partial = Partial(Incoming(BINARY_EVENT, 3, "/", None, ["e"]), 10)
    assert not partial.add(b"x" * 6) and not partial.add(b"x" * 4)
    with pytest.raises(ValueError):
        partial.add(b"x")


# To clients


@pytest.mark.parametrize(
    ("kind", "namespace", "id", "data", "text"),
    [
        (CONNECT, "/", None, {"sid": "a"}, '40{"sid":"a"}'),
        (CONNECT, "/ns", None, {"sid": "a"}, '40/ns,{"sid":"a"}'),
        (DISCONNECT, "/ns", None, None, "41/ns,"),
        (DISCONNECT, "/", None, None, "41"),
        (EVENT, "/", None, ["e", 1, None], '42["e",1,null]'),
        (EVENT, "/ns", 7, ["e"], '42/ns,7["e"]'),
        (EVENT, "/ns", 0, ["e"], '42/ns,0["e"]'),
        (ACK, "/", 7, [], "437[]"),
        (ACK, "/ns", 7, [{"ü": "€"}], '43/ns,7[{"ü":"€"}]'),
        (CONNECT_ERROR, "/ns", None, {"message": "no"}, '44/ns,{"message":"no"}'),
        (CONNECT_ERROR, "/", None, "no", '44"no"'),
    ],
)
def test_packets_of_the_server(kind: int, namespace: str, id: int | None, data: Any, text: str) -> None:
    made = encode(kind, namespace, id, data, wire_json.dumps)
    assert (made.text, made.attachments) == (text, ())


@pytest.mark.parametrize(
    ("kind", "id", "data", "text", "parts"),
    [
        (EVENT, None, ["e", b"a"], '451-/ns,["e",{"_placeholder":true,"num":0}]', (b"a",)),
        (EVENT, 3, ["e", b"a", b""], "452-/ns,3", (b"a", b"")),
        (ACK, 7, [b"a"], '461-/ns,7[{"_placeholder":true,"num":0}]', (b"a",)),
        (EVENT, None, ["e", {"x": [{"y": bytearray(b"deep")}]}], "451-/ns,", (b"deep",)),
    ],
)
def test_bytes_of_the_server_become_attachments(
    kind: int, id: int | None, data: Any, text: str, parts: tuple[bytes, ...]
) -> None:
    made = encode(kind, "/ns", id, data, wire_json.dumps)
    assert made.text.startswith(text) and made.attachments == parts
    assert all(type(part) is bytes for part in made.attachments)
    back = decode(made.text[1:], json.loads)
    assert (back.kind, back.attachments, back.id) == (kind + 3, len(parts), id)


def test_what_a_server_sends_a_client_could_read() -> None:
    for data in (["e"], ["e", {"a": [1, 2.5, "ü", None, True]}], ["e", b"x", {"y": [b"z"]}]):
        made = encode(EVENT, "/ns", 12, data, wire_json.dumps)
        incoming = decode(made.text[1:], json.loads)
        partial = Partial(incoming, 100)
        for part in made.attachments:
            partial.add(part)
        assert partial.whole().data == data and incoming.id == 12 and incoming.namespace == "/ns"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", True),
        (bytearray(), True),
        (["e", 1, "x", None, 2.5], False),
        (["e", ("a", [{"b": b"c"}])], True),
        ({"a": {"b": {"c": []}}}, False),
        ((), False),
    ],
)
def test_looking_for_bytes(data: Any, found: bool) -> None:
    assert has_bytes(data) is found


def test_looking_for_bytes_in_what_is_very_deep() -> None:
    deep: Any = b"x"
    for _ in range(10_000):
        deep = [deep]
    assert has_bytes(deep)


# Answers


def test_a_reply_is_an_ack_where_one_was_asked_for() -> None:
    sent: list[Message] = []
    reply = Reply(sent.append, "/ns", 0, wire_json.dumps)
    assert reply.acked
    reply.ack({"ok": True})
    Reply(sent.append, "/", 5, wire_json.dumps).ack(None)
    plain = Reply(sent.append, "/ns", None, wire_json.dumps)
    assert not plain.acked
    plain.emit("done", {"raw": b"a"})
    assert [one.text for one in sent] == ['43/ns,0[{"ok":true}]', "435[null]", '42/ns,["done",{"raw":"YQ=="}]']
    assert all(one.slow.policy == "answer" and one.attachments == () for one in sent)
