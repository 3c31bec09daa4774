"""The envelope: what a publish announces comes back as it was, and anything else on the channel is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mintflow_realtime.protocol.envelope import (
    Announcement,
    Event,
    Header,
    Offset,
    Policy,
    Published,
    decode,
    event_pieces,
    parse_offset,
)
from mintflow_realtime.protocol.wire_json import dumps

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.one_of(st.none(), st.builds(Offset, st.from_regex(r"\A[0-9a-f]{1,16}\Z"), st.integers(0, 2**53))),
    st.lists(TEXT, max_size=4),
    st.sampled_from(Policy),
    TEXT,
    TEXT,
    st.lists(TEXT, max_size=3),
)
def test_an_envelope_comes_back_as_it_was(
    offset: Offset | None, rooms: list[str], policy: Policy, key: str, except_sid: str, payload: list[str]
) -> None:
    header = Header(tuple(rooms), policy, key, except_sid)
    arguments = dumps(["event", payload])
    message = f"{offset or '-'}\n{dumps(header)}\n{arguments}".encode()
    assert decode(message) == Announcement(offset, header, arguments, 0, str(offset or ""))


def test_arguments_are_passed_on_and_not_decoded() -> None:
    deep = '["e",' + "[" * 1200 + "]" * 1200 + "]"
    assert decode(f'a-1\n[["t:"]]\n{deep}'.encode()) == Announcement(Offset("a", 1), Header(("t:",)), deep, 0, "a-1")


def test_a_volatile_event_may_stand_in_for_the_next() -> None:
    told = decode(b'-a-7\n[["t:"]]\n["e"]')
    assert (told.offset, told.mark) == (None, "a-7")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n\n",
        b"hello",
        b'{"method":"emit"}',
        b'a-1\n[["t:"]]',
        b'a-1\n[["t:"]]\n',
        b'a-1\n[["t:"]]\n{}',
        b'a-1\n\n["e"]',
        b'a-1\n{"rooms":[]}\n["e"]',
        b'a-1\n[["t:"],"unheard of"]\n["e"]',
        b'a-1\n[["t:", 1]]\n["e"]',
        b'a-1\n[["t:"]]\n["\xff"]',
        b'\xff-1\n[["t:"]]\n["e"]',
        b'a\n[["t:"]]\n["e"]',
        b'a-\n[["t:"]]\n["e"]',
        b'-1\n[["t:"]]\n["e"]',
        b'a-x\n[["t:"]]\n["e"]',
        b'a--1\n[["t:"]]\n["e"]',
        b"\x00" * 100,
        b"a-1\n" + b"[" * 100_000 + b'\n["e"]',
        b"a-" + b"9" * 5000 + b'\n[["t:"]]\n["e"]',
    ],
)
def test_anything_else_is_a_value_error(message: bytes) -> None:
    with pytest.raises(ValueError):
        decode(message)


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_raise_value_error(message: bytes) -> None:
    try:
        decode(message)
    except ValueError:
        return


@pytest.mark.parametrize("text", ["a-1", "0123abcd-9007199254740993", "Z-0"])
def test_offsets_are_read_back(text: str) -> None:
    assert str(parse_offset(text)) == text


@pytest.mark.parametrize("text", ["", "a", "a-", "-1", "a-1-", "a--1", "é-1", "a-１", "a b-1", "a-1.0", "a-+1"])
def test_an_offset_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_offset(text)
    assert parse_offset("-") is None


@pytest.mark.parametrize(
    ("pieces", "gaps", "text"),
    [
        (('{"a":1}',), (), '["e",{"a":1}]'),
        (('{"seq":', "}"), ("7",), '["e",{"seq":7}]'),
        (('{"a":', ',"b":', "}"), ("1", '"x"'), '["e",{"a":1,"b":"x"}]'),
    ],
)
def test_an_event_is_its_pieces_around_what_the_change_returns(
    pieces: tuple[str, ...], gaps: tuple[str, ...], text: str
) -> None:
    event = Event(Header(("t:",)), event_pieces("e", pieces))
    assert event.filled(gaps) == text
    assert event.size == len(text) - sum(len(gap) for gap in gaps)


def test_too_few_and_too_many_gaps_are_an_error() -> None:
    event = Event(Header(()), ("a", "b"))
    for gaps in ((), ("1", "2")):
        with pytest.raises(ValueError):
            event.filled(gaps)


def test_sizes_are_bytes_and_not_characters() -> None:
    assert Event(Header(()), event_pieces("é", ('"é"',))).size == len('["é","é"]'.encode())


def test_what_was_published_tells_the_last_events_offset_and_payload() -> None:
    published = Published(("a-1", "a-2"), ((), ()), ('["e",{"n":1}]', '["e",{"n":2}]'))
    assert (published.offset, published.payload, published.repeated) == ("a-2", {"n": 2}, False)


def test_headers_of_neighbouring_versions_are_read() -> None:
    earlier = decode(b'a-1\n[["t:"],"close","",""]\n["e",1]')
    assert earlier.header == Header(("t:",)) and earlier.header.at == 0
    later = decode(b'a-1\n[["t:"],"close","","",7,"more",8]\n["e",1]')
    assert later.header.rooms == ("t:",) and later.header.at == 7
