"""WebSocket frames without a socket: what a reader makes of bytes, however they are cut, and what is refused when."""

import gc
import os
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from types import FrameType

import pytest

from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PIECE,
    PING,
    PONG,
    TEXT,
    BrokenFrame,
    Frame,
    FrameReader,
)

LIMIT = 200_000
MASK = b"\x01\x82\x43\xf4"


def sent(opcode: int, payload: bytes, *, fin: bool = True, mask: bytes = MASK, rsv: int = 0, form: int = 0) -> bytes:
    """Return a client's frame; `form` (16 or 64 bits) writes its length longer than need be."""
    size, first = len(payload), (0x80 if fin else 0) | rsv << 4 | opcode
    if form == 64 or not form and size >= 65_536:
        head = struct.pack("!BBQ", first, 0xFF, size)
    elif form == 16 or size >= 126:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = bytes((first, 0x80 | size))
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read(reader: FrameReader, *parts: bytes) -> list[Frame]:
    """Feed `parts` one after the other and return the messages and control frames in them."""
    found = []
    for part in parts:
        reader.feed(part)
        while (frame := reader.next()) is not None:
            found.append(frame)
    return found


def code_of(*parts: bytes, limit: int = LIMIT) -> int:
    with pytest.raises(BrokenFrame) as broken:
        read(FrameReader(limit), *parts)
    return broken.value.code


def is_at_rest(reader: FrameReader) -> bool:
    return len(reader._buffer) == 0 and reader._message is None and not reader._mask


MIXED = [
    (sent(TEXT, "grüße".encode()), [Frame(TEXT, "grüße")]),
    (sent(BINARY, b""), [Frame(BINARY, b"")]),
    (sent(TEXT, b"x" * 126), [Frame(TEXT, "x" * 126)]),
    (sent(PING, b"are you there"), [Frame(PING, b"are you there")]),
    (
        sent(BINARY, b"ab", fin=False)
        + sent(PONG, b"")
        + sent(CONTINUATION, b"", fin=False)
        + sent(CONTINUATION, b"c"),
        [Frame(PONG, b""), Frame(BINARY, b"abc")],
    ),
    (sent(TEXT, b"\xe2\x82", fin=False) + sent(CONTINUATION, b"\xac"), [Frame(TEXT, "€")]),
    (sent(CLOSE, struct.pack("!H", 1000) + b"bye"), [Frame(CLOSE, struct.pack("!H", 1000) + b"bye")]),
]
STREAM = b"".join(one for one, _ in MIXED)
EXPECTED = [frame for _, found in MIXED for frame in found]


@pytest.mark.parametrize("split", range(1, len(STREAM)))
def test_a_stream_cut_anywhere_says_the_same(split: int) -> None:
    reader = FrameReader(LIMIT)
    assert read(reader, STREAM[:split], STREAM[split:]) == EXPECTED
    assert is_at_rest(reader)


def test_a_stream_byte_by_byte_says_the_same() -> None:
    reader = FrameReader(LIMIT)
    assert read(reader, *(bytes((byte,)) for byte in STREAM)) == EXPECTED
    assert is_at_rest(reader)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_lengths(size: int, opcode: int) -> None:
    payload = b"x" * size
    expected = Frame(opcode, payload.decode() if opcode == TEXT else payload)
    frame = sent(opcode, payload)
    assert read(FrameReader(LIMIT), frame) == [expected]
    for split in range(1, min(16, len(frame))):
        assert read(FrameReader(LIMIT), frame[:split], frame[split:]) == [expected]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("piece", [1, 3, 1000, PIECE - 1, PIECE, PIECE + 1, PIECE + 3, 3 * PIECE])
def test_a_long_payload_is_unmasked_in_pieces_that_begin_with_the_masks_first_byte(piece: int) -> None:
    payload = bytes(range(251)) * (170_000 // 251 if piece > 100 else 40)
    reader = FrameReader(LIMIT)
    assert read(reader, *pieces(sent(BINARY, payload), piece)) == [Frame(BINARY, payload)]
    assert is_at_rest(reader)


def test_of_a_long_payload_no_more_than_a_piece_waits_masked() -> None:
    reader = FrameReader(LIMIT)
    for part in pieces(sent(BINARY, b"x" * LIMIT)[:-1], 10_000):
        assert read(reader, part) == []
        assert len(reader._buffer) - reader._at < PIECE + 10_000


def test_a_megabyte_takes_no_loop_over_its_bytes() -> None:
    """Row 15: the library's loop in Python takes half a second, in which nobody else is served."""
    content = "ü" * 250_000 + "x" * 499_990
    mask = os.urandom(4)
    stream = frames.frame(TEXT, content.encode())
    stream = bytes((stream[0], 0x80 | stream[1])) + stream[2:10] + mask + frames.unmasked(stream[10:], mask)
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> object:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    reader, parts = FrameReader(1_000_000), list(pieces(stream, 65_536))
    before = sys.gettrace()
    sys.settrace(count)
    try:
        found = read(reader, *parts)
    finally:
        sys.settrace(before)
    assert found == [Frame(TEXT, content)]
    # Of Python; a loop over the bytes has several for each.
    assert 0 < steps < len(stream) / 10


@pytest.mark.parametrize("form", [16, 64])
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
def test_a_length_in_more_bytes_than_it_needs_is_refused(opcode: int, form: int) -> None:
    before = sent(TEXT, b"a", fin=False) if opcode == CONTINUATION else b""
    assert code_of(before + sent(opcode, b"x" * 5, form=form)) == frames.PROTOCOL_ERROR


def test_a_length_of_64_bits_is_refused() -> None:
    assert code_of(struct.pack("!BBQ", 0x82, 0xFF, 1 << 63)) == frames.PROTOCOL_ERROR
    assert code_of(struct.pack("!BBQ", 0x82, 0xFF, 65_535)) == frames.PROTOCOL_ERROR


def test_what_is_too_long_is_refused_by_its_header() -> None:
    """Row 14: nothing of it is read, or waited for."""
    assert code_of(struct.pack("!BBH", 0x81, 0xFE, 201), limit=200) == frames.TOO_BIG
    assert code_of(struct.pack("!BBQ", 0x82, 0xFF, 8 << 30)) == frames.TOO_BIG
    assert code_of(sent(TEXT, b"x" * 150, fin=False), sent(CONTINUATION, b"x" * 51)[:2], limit=200) == frames.TOO_BIG
    assert read(FrameReader(200), sent(TEXT, b"x" * 150, fin=False), sent(CONTINUATION, b"x" * 50)) != []


@pytest.mark.parametrize("fragment", [b"", b"x"])
def test_many_fragments_take_no_more_memory_than_what_they_say(fragment: bytes) -> None:
    reader, count = FrameReader(200_000), 20_000
    read(reader, sent(TEXT, b"a", fin=False))
    frame = sent(CONTINUATION, fragment, fin=False)
    gc.collect()
    tracemalloc.start()
    read(reader, *[frame * 1000] * (count // 1000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.3 * len(fragment) * count + 20_000
    assert read(reader, sent(CONTINUATION, b"z")) == [Frame(TEXT, "a" + fragment.decode() * count + "z")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x00", frames.PROTOCOL_ERROR),
        *((sent(TEXT, b"a", rsv=rsv), frames.PROTOCOL_ERROR) for rsv in range(1, 8)),
        *((sent(opcode, b""), frames.PROTOCOL_ERROR) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        *((sent(opcode, b"", fin=False), frames.PROTOCOL_ERROR) for opcode in (CLOSE, PING, PONG)),
        *((sent(opcode, b"x" * 126)[:4], frames.PROTOCOL_ERROR) for opcode in (CLOSE, PING, PONG)),
        (sent(CONTINUATION, b"a"), frames.PROTOCOL_ERROR),
        (sent(TEXT, b"a", fin=False) + sent(TEXT, b"b"), frames.PROTOCOL_ERROR),
        (sent(BINARY, b"", fin=False) + sent(BINARY, b""), frames.PROTOCOL_ERROR),
        (sent(TEXT, b"\xff"), frames.INVALID_DATA),
        (sent(TEXT, b"\xed\xa0\x80"), frames.INVALID_DATA),
        (sent(TEXT, b"\xe2\x82", fin=False) + sent(CONTINUATION, b"\x28"), frames.INVALID_DATA),
    ],
)
def test_what_breaks_the_protocol_is_refused_at_its_first_bytes(data: bytes, code: int) -> None:
    assert code_of(data) == code
    if code == frames.PROTOCOL_ERROR:
        # Two bytes of the last frame are enough, however long it says that it is.
        assert code_of(data if len(data) < 4 else data[: data.rindex(MASK)] if MASK in data else data) == code


def test_text_is_checked_when_it_is_whole_and_binary_never() -> None:
    assert read(FrameReader(LIMIT), sent(BINARY, b"\xff\xfe")) == [Frame(BINARY, b"\xff\xfe")]
    assert read(FrameReader(LIMIT), sent(TEXT, b"\xf0\x9f", fin=False)) == []


def test_what_comes_after_a_whole_message_is_kept() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(sent(TEXT, b"one") + sent(TEXT, b"two") + sent(TEXT, b"three")[:4])
    assert reader.next() == Frame(TEXT, "one")
    reader.feed(sent(TEXT, b"three")[4:])
    assert [reader.next(), reader.next(), reader.next()] == [Frame(TEXT, "two"), Frame(TEXT, "three"), None]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_servers_frame_is_not_masked_and_says_its_length_as_short_as_can_be(size: int) -> None:
    made = frames.frame(TEXT, b"x" * size)
    head = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(made) == head + size and made[0] == 0x81 and made[1] & 0x80 == 0
    assert made[1] == size if size < 126 else made[1] == (126 if size < 65_536 else 127)
    assert size < 126 or int.from_bytes(made[2:head], "big") == size
    assert frames.text_of(made) == "x" * size


@pytest.mark.parametrize("size", range(0, 20))
def test_masking_twice_is_nothing(size: int) -> None:
    payload = os.urandom(size)
    masked = frames.unmasked(payload, MASK)
    assert masked == bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    assert frames.unmasked(bytearray(masked), bytearray(MASK)) == payload


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999])
def test_close_codes_of_peers(code: int) -> None:
    assert frames.close_code(struct.pack("!H", code) + "tschüß".encode()) == code
    assert frames.close_frame(code, "why") == frames.frame(CLOSE, struct.pack("!H", code) + b"why")


def test_a_close_frame_without_a_code() -> None:
    assert frames.close_code(b"") == frames.NO_STATUS
    assert frames.close_frame(frames.NO_STATUS) == b"\x88\x00"


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535])
def test_wrong_close_codes(code: int) -> None:
    with pytest.raises(BrokenFrame) as broken:
        frames.close_code(struct.pack("!H", code))
    assert broken.value.code == frames.PROTOCOL_ERROR


@pytest.mark.parametrize(("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)])
def test_wrong_close_payloads(payload: bytes, code: int) -> None:
    with pytest.raises(BrokenFrame) as broken:
        frames.close_code(payload)
    assert broken.value.code == code


def test_a_long_reason_is_cut_to_what_a_control_frame_holds() -> None:
    made = frames.close_frame(1008, "x" * 500)
    assert len(made) == 2 + 125
