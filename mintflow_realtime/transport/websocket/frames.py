"""WebSocket frames by RFC 6455, from bytes and to bytes: no socket, no clock.

Masking is one XOR of two integers and UTF-8 is checked by `bytes.decode`: both run in C.
"""

import struct
from typing import NamedTuple

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA

# Section 7.4.1.
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, INVALID_DATA, POLICY, TOO_BIG = 1000, 1001, 1002, 1005, 1007, 1008, 1009
_SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})

_length16 = struct.Struct("!BBH").pack
_length64 = struct.Struct("!BBQ").pack
_read16 = struct.Struct("!H").unpack_from
_read64 = struct.Struct("!Q").unpack_from
_code = struct.Struct("!H")

# A payload that comes in pieces is unmasked in pieces of about this many bytes, so that no single step is long.
PIECE = 65_536


class BrokenFrame(Exception):
    """The peer broke the protocol: the connection is closed with `code` (section 7.1.7)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Frame(NamedTuple):
    """A whole message (TEXT with a str, BINARY with bytes) or a control frame (with bytes)."""

    opcode: int
    payload: str | bytes


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a server's frame: final, not masked (sections 5.1 and 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65_536:
        return _length16(0x80 | opcode, 126, size) + payload
    return _length64(0x80 | opcode, 127, size) + payload


def text_of(made: bytes) -> str:
    """Return the text of a frame that `frame` made."""
    size = made[1]
    return made[2 if size < 126 else 4 if size == 126 else 10 :].decode()


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; NO_STATUS is one without a body (sections 5.5.1 and 7.4)."""
    if code == NO_STATUS:
        return frame(CLOSE, b"")
    return frame(CLOSE, _code.pack(code) + reason.encode()[:123])


def close_code(payload: bytes) -> int:
    """Return the code of a peer's close frame, NO_STATUS without a body. Raises BrokenFrame for a wrong one."""
    if not payload:
        return NO_STATUS
    if len(payload) == 1:
        raise BrokenFrame(PROTOCOL_ERROR, "A close code has two bytes")
    code: int = _code.unpack_from(payload)[0]
    if code not in _SENDABLE and not 3000 <= code < 5000:
        raise BrokenFrame(PROTOCOL_ERROR, f"{code} is no close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise BrokenFrame(INVALID_DATA, "The reason is not UTF-8") from None
    return code


def unmasked(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """Return `payload` XOR `mask`, repeated from its first byte (section 5.3)."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


class FrameReader:
    """Takes the bytes of one client and yields what they say. At rest it holds nothing.

    A message of more than `limit` bytes is refused by its header, before it is read.
    """

    __slots__ = ("_limit", "_buffer", "_at", "_kind", "_message", "_left", "_mask", "_final")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer: bytes | bytearray = b""
        self._at = 0
        # The message under way: its opcode, and what has come of it, in one piece: a million parts of a byte are 40 MB.
        self._kind = 0
        self._message: bytearray | None = None
        # The data frame under way, whose header was taken: bytes to come, its mask, and whether it is the last.
        self._left = 0
        self._mask = b""
        self._final = False

    def feed(self, data: bytes) -> None:
        """Take bytes as they came; then call `next` until it returns None."""
        if self._at >= len(self._buffer):
            self._buffer = data
        elif isinstance(self._buffer, bytearray) and not self._at:
            self._buffer += data
        else:
            rest = bytearray(memoryview(self._buffer)[self._at :])
            rest += data
            self._buffer = rest
        self._at = 0

    def next(self) -> Frame | None:
        """Return the next message or control frame, or None until more bytes come. Raises BrokenFrame."""
        while True:
            if self._mask:
                found = self._continued()
                if found is None or self._final:
                    return found
                continue
            buffer, at = self._buffer, self._at
            have = len(buffer) - at
            if have < 2:
                return self._rest()
            first, second = buffer[at], buffer[at + 1]
            size = second & 0x7F
            self._check(first, second, size)
            start = at + 6
            if size == 126:
                if have < 4:
                    return self._rest()
                size, start = _read16(buffer, at + 2)[0], at + 8
                if size < 126:
                    raise BrokenFrame(PROTOCOL_ERROR, "A length in more bytes than it needs")
            elif size == 127:
                if have < 10:
                    return self._rest()
                size, start = _read64(buffer, at + 2)[0], at + 14
                if size < 65_536 or size >> 63:
                    raise BrokenFrame(PROTOCOL_ERROR, "A length in more bytes than it needs, or over 63 bits")
            opcode = first & 0x0F
            if opcode < CLOSE and size + len(self._message or b"") > self._limit:
                raise BrokenFrame(TOO_BIG, f"A message is at most {self._limit} bytes")
            if len(buffer) < start:
                return self._rest()
            end = start + size
            if len(buffer) >= end:
                self._at = end
                payload = unmasked(buffer[start:end], buffer[start - 4 : start])
                if opcode >= CLOSE:
                    return Frame(opcode, payload)
                if first & 0x80 and self._message is None:
                    return _message(opcode, payload)
                self._add(opcode, payload)
                if first & 0x80:
                    return self._whole()
            elif opcode >= CLOSE:
                return self._rest()
            else:
                self._add(opcode, b"")
                self._left, self._mask, self._final = size, bytes(buffer[start - 4 : start]), bool(first & 0x80)
                self._at = start

    def _check(self, first: int, second: int, size: int) -> None:
        """Refuse a frame by its first two bytes (sections 5.1, 5.2, 5.4 and 5.5)."""
        opcode = first & 0x0F
        if not second & 0x80:
            raise BrokenFrame(PROTOCOL_ERROR, "A client's frames are masked")
        if first & 0x70:
            raise BrokenFrame(PROTOCOL_ERROR, "Reserved bits without an extension")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise BrokenFrame(PROTOCOL_ERROR, f"Opcode {opcode}")
            if not first & 0x80 or size > 125:
                raise BrokenFrame(PROTOCOL_ERROR, "A control frame is one frame of at most 125 bytes")
        elif opcode == CONTINUATION:
            if self._message is None:
                raise BrokenFrame(PROTOCOL_ERROR, "A continuation of nothing")
        elif opcode > BINARY:
            raise BrokenFrame(PROTOCOL_ERROR, f"Opcode {opcode}")
        elif self._message is not None:
            raise BrokenFrame(PROTOCOL_ERROR, "A new message inside another")

    def _continued(self) -> Frame | None:
        """Take what there is of the data frame under way; return the message where it ends with it."""
        buffer, at = self._buffer, self._at
        have = len(buffer) - at
        if have < self._left and have < PIECE:
            return self._rest()
        # Whole masks, but for the end, so that the next piece begins with the mask's first byte.
        taken = self._left if have >= self._left else have - have % 4
        payload = unmasked(bytes(memoryview(buffer)[at : at + taken]), self._mask)
        self._at = at + taken
        self._left -= taken
        self._add(CONTINUATION, payload)
        if self._left:
            return self._rest()
        self._mask = b""
        return self._whole() if self._final else Frame(CONTINUATION, b"")

    def _add(self, opcode: int, payload: bytes) -> None:
        if self._message is None:
            self._kind, self._message = opcode, bytearray()
        self._message += payload

    def _whole(self) -> Frame:
        payload, self._message = self._message or b"", None
        return _message(self._kind, payload)

    def _rest(self) -> Frame | None:
        """Return None, for more bytes must come; keep no more than what is not read yet."""
        if self._at >= len(self._buffer):
            self._buffer, self._at = b"", 0
        return None


def _message(opcode: int, payload: bytes | bytearray) -> Frame:
    if opcode == BINARY:
        return Frame(BINARY, bytes(payload))
    try:
        return Frame(TEXT, payload.decode())
    except UnicodeDecodeError:
        raise BrokenFrame(INVALID_DATA, "Not UTF-8") from None
