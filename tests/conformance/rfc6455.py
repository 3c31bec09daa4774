"""Rows of RFC 6455: what each frame, and each order of frames, must come to."""

import struct
from itertools import product

from tests.conformance.outcomes import Closes, Outcome, Pongs, Row, Table, closes, lives, one_of, unordered
from tests.conformance.wire import BINARY, CLOSE, PING, PONG, TEXT, Frame, Received, close, text

MAX = 100_000
"""`SOCKET_MAX_PAYLOAD` of the server under test."""
CONTINUATION = 0
PROTOCOL, NOT_TEXT, TOO_BIG = 1002, 1007, 1009
ASKS_BINARY = text('451-7["echo",{"_placeholder":true,"num":0}]')
PING_PONG = Received("pong", b"still here")
STILL = bytes(Frame(PING, b"still here"))


def event(size: int = 0, number: int = 7) -> str:
    """Return an Engine.IO packet of `size` bytes that `echo` acks; the shortest there is for less."""
    start = f'42{number}["echo","'
    return start + "x" * (size - len(start) - 2) + '"]'


def acked(content: str) -> str:
    """Return the ack of an `echo` event."""
    return "43" + content[2:].replace('"echo",', "", 1)


def binary_ack(payload: bytes) -> tuple[str | bytes, ...]:
    return '461-7[{"_placeholder":true,"num":0}]', payload


def rows() -> list[Row]:
    table = Table()
    for build in (headers, lengths, fragments, utf8, closing, control, splits, segments):
        build(table)
    return table.checked()


def headers(table: Table) -> None:
    """Every opcode with every FIN, RSV and MASK, and three lengths (5.2, 5.3, 5.5)."""
    for opcode, fin, is_masked, rsv, size in product(range(16), (1, 0), (1, 0), range(8), (0, 1, 125)):
        payload = b"x" * size
        if opcode == TEXT:
            payload = event(size).encode() if size == 125 else b"6"[:size]
        elif opcode == CLOSE and size == 125:
            payload = struct.pack("!H", 1000) + b"x" * 123
        first = bytes(Frame(opcode, payload, bool(fin), rsv, bool(is_masked)))
        section, outcome, rest = _header_outcome(opcode, fin, is_masked, rsv, payload)
        before = ASKS_BINARY if opcode == BINARY else b""
        name = f"opcode {opcode:X} fin {fin} rsv {rsv:03b} {'masked' if is_masked else 'unmasked'} {size} bytes"
        table.add(section, name, before + first + rest, outcome)


def _header_outcome(opcode: int, fin: int, is_masked: int, rsv: int, payload: bytes) -> tuple[str, Outcome, bytes]:
    refused = closes(PROTOCOL)
    if not is_masked:
        return "RFC 6455 5.1", refused, b""
    if rsv:
        return "RFC 6455 5.2 RSV", refused, b""
    if opcode in (*range(3, 8), *range(11, 16)):
        return "RFC 6455 5.2 opcode", refused, b""
    if opcode == CONTINUATION:
        return "RFC 6455 5.4 continuation", refused, b""
    if opcode >= 8:
        if not fin:
            return "RFC 6455 5.5 fragmented control", refused, b""
        if opcode == PING:
            return "RFC 6455 5.5.2", lives(Received("pong", payload)), b""
        if opcode == PONG:
            return "RFC 6455 5.5.3", lives(), b""
        if len(payload) == 1:
            return "RFC 6455 5.5.1", refused, b""
        return "RFC 6455 5.5.1", closes(1000) if payload else closes(None, 1000), b""
    rest = b"" if fin else bytes(Frame(CONTINUATION, b""))
    if opcode == BINARY:
        return "RFC 6455 5.6", lives(*binary_ack(payload)), rest
    if len(payload) == 125:
        return "RFC 6455 5.6", lives(acked(payload.decode())), rest
    # An Engine.IO packet has a type: an empty message is none.
    return ("RFC 6455 5.6", lives(), rest) if payload else ("Engine.IO v4 Protocol", closes(), rest)


def lengths(table: Table) -> None:
    """The three forms of a length, their bounds, and the limit (5.2, 7.4.1, 10.4)."""
    section = "RFC 6455 5.2 length"
    for size in (124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, MAX - 1, MAX):
        content = event(size)
        assert len(content) == size
        table.add(section, f"text of {size} bytes", text(content), lives(acked(content)))
        for opcode, half in product((TEXT, BINARY), (False, True)):
            if opcode == TEXT and not half:
                continue
            payload = content.encode() if opcode == TEXT else bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
            middle = size // 2 if half else size
            parts = [Frame(opcode, payload[:middle], fin=not half)]
            parts += [Frame(CONTINUATION, payload[middle:])] if half else []
            replies = (acked(content),) if opcode == TEXT else binary_ack(payload)
            before = ASKS_BINARY if opcode == BINARY else b""
            kind = "text" if opcode == TEXT else "binary"
            name = f"{kind} of {size} bytes{' in halves' if half else ''}"
            table.add(section, name, before + b"".join(map(bytes, parts)), lives(*replies))
    for size, form in [(0, 16), (1, 16), (125, 16), (0, 64), (1, 64), (125, 64), (126, 64), (65535, 64)]:
        for opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            before = bytes(Frame(TEXT, b"6", fin=False)) if opcode == CONTINUATION else b""
            frame = Frame(opcode, b"6" * size, form=form)
            table.add(section, f"opcode {opcode:X}: {size} in {form} bits", before + bytes(frame), closes(PROTOCOL))
    beyond = [
        MAX + 1,
        MAX + 4,
        1 << 20,
        (1 << 31) - 1,
        1 << 31,
        (1 << 32) - 1,
        1 << 32,
        1 << 33,
        1 << 62,
        (1 << 63) - 1,
    ]
    for size, opcode, fin in product(beyond, (TEXT, BINARY), (True, False)):
        frame = Frame(opcode, b"", fin, declared=size)
        table.add("RFC 6455 10.4", f"opcode {opcode} fin {fin:d}: {size} declared", bytes(frame), closes(TOO_BIG))
    for size in (MAX // 2 + 1, MAX, *beyond):
        first = bytes(Frame(TEXT, b"6" * (MAX // 2), fin=False))
        second = bytes(Frame(CONTINUATION, b"", declared=size))
        table.add("RFC 6455 10.4", f"continuation: {size} declared after {MAX // 2}", first + second, closes(TOO_BIG))
        between = first + STILL + second
        outcome = closes(TOO_BIG, after=[PING_PONG])
        table.add("RFC 6455 10.4", f"continuation after a ping: {size} after {MAX // 2}", between, outcome)
    for size, opcode in product([1 << 63, (1 << 63) + 5, (1 << 64) - 1], (TEXT, BINARY, PING, CLOSE)):
        frame = Frame(opcode, b"", declared=size, form=64)
        table.add(section, f"opcode {opcode:X}: most significant bit, {size}", bytes(frame), closes(PROTOCOL))
    for size, opcode in product([126, 127, 200, 65535, 65536, 1 << 32], (CLOSE, PING, PONG)):
        frame = Frame(opcode, b"x" * size if size < 65536 else b"", declared=size)
        table.add("RFC 6455 5.5", f"control frame {opcode:X} of {size} bytes", bytes(frame), closes(PROTOCOL))


def parts_of(payload: bytes, count: int, opcode: int = TEXT) -> list[Frame]:
    """Return a message in `count` fragments."""
    step = len(payload) // count
    cuts = [step * nth for nth in range(count)] + [len(payload)]
    return [
        Frame(CONTINUATION if nth else opcode, payload[cuts[nth] : cuts[nth + 1]], fin=nth == count - 1)
        for nth in range(count)
    ]


def joined(frames: list[Frame]) -> bytes:
    return b"".join(map(bytes, frames))


def fragments(table: Table) -> None:
    """Fragmented messages, and what may and may not come between (5.4)."""
    section, content = "RFC 6455 5.4", event(60)
    ping, pong = Frame(PING, b"between"), Frame(PONG, b"nobody asked")
    for count in range(2, 8):
        parts = parts_of(content.encode(), count)
        table.add(section, f"{count} fragments", joined(parts), lives(acked(content)))
        for place in range(1, count):
            replies = (Received("pong", b"between"), acked(content))
            with_ping = parts[:place] + [ping] + parts[place:]
            table.add(section, f"a ping before fragment {place + 1} of {count}", joined(with_ping), lives(*replies))
            with_pong = parts[:place] + [pong] + parts[place:]
            table.add(
                section, f"a pong before fragment {place + 1} of {count}", joined(with_pong), lives(acked(content))
            )
            with_close = parts[:place] + [Frame(CLOSE, struct.pack("!H", 1001))]
            table.add(section, f"a close before fragment {place + 1} of {count}", joined(with_close), closes(1001))
            for opcode, fin in product((TEXT, BINARY), (True, False)):
                intruder = parts[:place] + [Frame(opcode, b"6", fin=fin)] + parts[place:]
                name = f"opcode {opcode} fin {fin:d} before fragment {place + 1} of {count}"
                table.add(section, name, joined(intruder), closes(PROTOCOL))
            for rsv in (1, 2, 4):
                bad = parts[:place] + [Frame(CONTINUATION, b"x", rsv=rsv)]
                name = f"RSV {rsv} in a fragment before {place + 1} of {count}"
                table.add(section, name, joined(bad), closes(PROTOCOL))
            for opcode in (CLOSE, PING, PONG):
                bad = parts[:place] + [Frame(opcode, b"", fin=False)]
                name = f"fragmented control {opcode:X} before fragment {place + 1} of {count}"
                table.add("RFC 6455 5.5", name, joined(bad), closes(PROTOCOL))
    for fin in (True, False):
        frame = Frame(CONTINUATION, b"6", fin=fin)
        after = joined([*parts_of(content.encode(), 2), frame])
        name = f"continuation after a whole message, fin {fin:d}"
        table.add(section, name, after, closes(PROTOCOL, after=[acked(content)]))
    payload = bytes(range(200))
    for count in range(2, 6):
        frames = ASKS_BINARY + joined(parts_of(payload, count, BINARY))
        table.add(section, f"a binary message in {count} fragments", frames, lives(*binary_ack(payload)))
    empty = Frame(CONTINUATION, b"", fin=False)
    for count in (1, 10, 1000):
        first, last = parts_of(content.encode(), 2)
        whole = joined([first] + [empty] * count + [last])
        outcome: Outcome = lives(acked(content))
        if count == 1000:
            outcome = one_of(outcome, closes(1008, TOO_BIG))
        table.add(section, f"{count} empty fragments", whole, outcome)
    single = joined(parts_of(content.encode(), len(content)))
    table.add(section, "a fragment for each byte", single, lives(acked(content)))
    many = joined([Frame(TEXT, b"", fin=False), ping] + [empty, ping] * 20 + [Frame(CONTINUATION, content.encode())])
    pongs = [Received("pong", b"between")] * 21
    table.add(section, "20 pings between empty fragments", many, lives(*pongs, acked(content)))


VALID_UTF8 = {
    "two bytes": "ä".encode(),
    "three bytes": "€".encode(),
    "four bytes": "💜".encode(),
    "first of two": b"\xc2\x80",
    "first of three": b"\xe0\xa0\x80",
    "first of four": b"\xf0\x90\x80\x80",
    "before the surrogates": b"\xed\x9f\xbf",
    "after the surrogates": b"\xee\x80\x80",
    "the last": b"\xf4\x8f\xbf\xbf",
    "a noncharacter": b"\xef\xbf\xbf",
    "the replacement character": b"\xef\xbf\xbd",
    "a byte order mark": b"\xef\xbb\xbf",
    "mixed": "κόσμε€💜ä".encode(),
}
INVALID_UTF8 = {
    "a lone continuation byte": b"\x80",
    "the last continuation byte": b"\xbf",
    "two continuation bytes": b"\x80\xbf",
    "FE": b"\xfe",
    "FF": b"\xff",
    "FE FE FF FF": b"\xfe\xfe\xff\xff",
    "C0": b"\xc0",
    "C1": b"\xc1\xbf",
    "F5": b"\xf5\x80\x80\x80",
    "overlong of two bytes": b"\xc0\xaf",
    "overlong of three bytes": b"\xe0\x80\xaf",
    "overlong of four bytes": b"\xf0\x80\x80\xaf",
    "highest overlong of two": b"\xc1\xbf",
    "highest overlong of three": b"\xe0\x9f\xbf",
    "highest overlong of four": b"\xf0\x8f\xbf\xbf",
    "overlong NUL": b"\xc0\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "first surrogate": b"\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "a surrogate pair": b"\xed\xa0\xbd\xed\xb2\x9c",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "two bytes cut short": b"\xc3",
    "three bytes cut to one": b"\xe2",
    "three bytes cut to two": b"\xe2\x82",
    "four bytes cut to one": b"\xf0",
    "four bytes cut to two": b"\xf0\x9f",
    "four bytes cut to three": b"\xf0\x9f\x92",
    "ASCII within three bytes": b"\xe2A\x82",
    "Latin-1": "grüße".encode("latin-1"),
}


def utf8(table: Table) -> None:
    """UTF-8 in text messages, whole, and cut anywhere by fragments (5.6, 8.1)."""
    for (name, bad), (what, outcome) in [
        *product(VALID_UTF8.items(), [("valid", None)]),
        *product(INVALID_UTF8.items(), [("invalid", closes(NOT_TEXT))]),
    ]:
        payload = b'427["echo","' + bad + b'"]'
        good: Outcome = lives(acked(payload.decode())) if outcome is None else outcome
        section = f"RFC 6455 8.1 {what}"
        table.add(section, f"{name} in one frame", text(payload), good)
        for cut in range(12, 12 + len(bad) + 1):
            frames = [Frame(TEXT, payload[:cut], fin=False), Frame(CONTINUATION, payload[cut:])]
            table.add(section, f"{name} cut by fragments at {cut}", joined(frames), good)
        every = [
            Frame(TEXT if nth == 0 else 0, payload[nth : nth + 1], nth == len(payload) - 1)
            for nth in range(len(payload))
        ]
        table.add(section, f"{name} in fragments of a byte", joined(every), good)
    for name, bad in INVALID_UTF8.items():
        table.add("RFC 6455 8.1 invalid", f"{name} ends the message", text(b"4" + bad), closes(NOT_TEXT))
        at_end = [Frame(TEXT, b"4", fin=False), Frame(CONTINUATION, bad, fin=False), Frame(CONTINUATION, b"")]
        table.add("RFC 6455 8.1 invalid", f"{name}, then an empty last fragment", joined(at_end), closes(NOT_TEXT))
        payload = b"\0" + bad
        table.add(
            "RFC 6455 5.6",
            f"{name} as binary",
            ASKS_BINARY + bytes(Frame(BINARY, payload)),
            lives(*binary_ack(payload)),
        )
        ping = bytes(Frame(PING, bad))
        table.add("RFC 6455 5.5.2", f"{name} in a ping", ping, lives(Received("pong", bad)))


def closing(table: Table) -> None:
    """Close frames of the client (5.5.1, 7.4)."""
    section = "RFC 6455 7.4"
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        for reason in (b"", b"bye", "grüße".encode(), b"x" * 123):
            table.add("RFC 6455 5.5.1", f"code {code}, reason of {len(reason)}", close(code, reason), closes(code))
    for code in (1012, 1013, 1014):  # registered with IANA after the RFC
        table.add("RFC 6455 7.4.2", f"code {code}", close(code), closes(code))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999):
        table.add(section, f"code {code}", close(code), closes(PROTOCOL))
        table.add(section, f"code {code} with a reason", close(code, b"why"), closes(PROTOCOL))
    for code in (5000, 65535):
        # 7.4.2 says nothing of these; what must not be is a close frame that says them.
        table.add("RFC 6455 7.4.2", f"code {code}", close(code), closes())
    for name, bad in INVALID_UTF8.items():
        table.add("RFC 6455 5.5.1 reason", name, close(1000, bad), closes(NOT_TEXT))
        table.add("RFC 6455 5.5.1 reason", f"{name} after text", close(1000, b"why " + bad), closes(NOT_TEXT))
    for after in (text(event()), close(1001), bytes(Frame(PING, b"x")), bytes(Frame(3)), b"\xff" * 20):
        # 5.5.1: no more data after a close frame, so nobody listens for any.
        table.add("RFC 6455 5.5.1", f"{after[:1].hex()} after a close frame", close(1000) + after, closes(1000))


def control(table: Table) -> None:
    """Pings and pongs (5.5.2, 5.5.3)."""
    for size in range(126):
        payload = bytes((size + nth) % 256 for nth in range(size))
        table.add(
            "RFC 6455 5.5.2",
            f"a ping of {size} own bytes",
            bytes(Frame(PING, payload)),
            lives(Received("pong", payload)),
        )
    for count in (2, 10, 50):
        pings = b"".join(bytes(Frame(PING, b"%d" % nth)) for nth in range(count))
        table.add("RFC 6455 5.5.2", f"{count} pings", pings, Pongs(count))
        pongs = b"".join(bytes(Frame(PONG, b"%d" % nth)) for nth in range(count))
        table.add("RFC 6455 5.5.3", f"{count} pongs that nobody asked for", pongs, lives())
    between = STILL + text(event(80)) + STILL
    table.add("RFC 6455 5.5.2", "pings around a message", between, unordered(acked(event(80)), PING_PONG, PING_PONG))


SPLIT: dict[str, tuple[bytes, Outcome]] = {
    "a short text": (text(event(40)), lives(acked(event(40)))),
    "a text with a 16-bit length": (text(event(126)), lives(acked(event(126)))),
    "a ping": (bytes(Frame(PING, b"split")), lives(Received("pong", b"split"))),
    "a close": (close(1001, b"bye"), closes(1001)),
    "fragments and a ping": (
        joined([*parts_of(event(40).encode(), 2)[:1], Frame(PING, b"p"), *parts_of(event(40).encode(), 2)[1:]]),
        lives(Received("pong", b"p"), acked(event(40))),
    ),
    "a binary event": (ASKS_BINARY + bytes(Frame(BINARY, b"\0\xff" * 5)), lives(*binary_ack(b"\0\xff" * 5))),
    "a bad opcode": (bytes(Frame(PONG, b"ok")) + bytes(Frame(3, b"")), closes(PROTOCOL)),
    "too long": (bytes(Frame(TEXT, b"", declared=1 << 32)), closes(TOO_BIG)),
    "bad UTF-8": (text(b"4" + b"\xe2\x82"), closes(NOT_TEXT)),
}


def splits(table: Table) -> None:
    """Frames of which the first part is read before the rest is sent, at every byte (5.2: TCP has no frames)."""
    for name, (content, outcome) in SPLIT.items():
        # What is wrong with the last header is known before its mask has come.
        known = len(content) - 4 if name in ("a bad opcode", "too long") else len(content)
        for cut in range(1, known):
            table.add("RFC 6455 5.2 split", f"{name} at {cut}", (content[:cut], content[cut:]), outcome)
    long = text(event(65536))
    for cut in (*range(1, 16), 125, 126, 4096, 16384, 65535, 65536, len(long) - 1):
        table.add("RFC 6455 5.2 split", f"65536 bytes at {cut}", (long[:cut], long[cut:]), lives(acked(event(65536))))
    for name, (content, outcome) in SPLIT.items():
        if isinstance(outcome, Closes) and name != "a close":
            continue
        every = tuple(content[nth : nth + 1] for nth in range(len(content)))
        table.add("RFC 6455 5.2 split", f"{name}, each byte by itself", every, outcome)


def segments(table: Table) -> None:
    """Several frames in one segment."""
    for count in (2, 3, 10, 30):
        contents = [event(50, nth) for nth in range(count)]
        whole, acks = b"".join(map(text, contents)), tuple(map(acked, contents))
        table.add("RFC 6455 5.2", f"{count} messages in one segment", whole, unordered(*acks))
        bad = whole + bytes(Frame(TEXT, b"6", masked=False))
        table.add(
            "RFC 6455 5.1",
            f"{count} messages and an unmasked one",
            bad,
            Closes(frozenset([PROTOCOL]), acks, exactly=False),
        )
        closed = whole + close(1000)
        table.add(
            "RFC 6455 5.5.1", f"{count} messages and a close", closed, Closes(frozenset([1000]), acks, exactly=False)
        )
