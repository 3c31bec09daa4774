"""Engine.IO packets from their wire form, and the bounds of what they may be."""

import base64
from typing import Any

from engineio import packet
from engineio.exceptions import EngineIOError

from transport.requests import Environ

PACKET_TYPES = "0123456"


class MalformedPacket(EngineIOError):  # type: ignore[misc]
    """The client broke the protocol: its session is closed, without a traceback."""


def decode(encoded: str | bytes | bytearray) -> Any:
    """Return a packet from its wire form; the content of a text message stays text. Raises `MalformedPacket`."""
    if not isinstance(encoded, str):
        return packet.Packet(packet.MESSAGE, bytes(encoded))
    if encoded[:1] == "b":
        try:
            return packet.Packet(packet.MESSAGE, base64.b64decode(encoded[1:], validate=True))
        except ValueError as error:
            raise MalformedPacket(f"Base64: {error}") from error
    if encoded[:1] not in PACKET_TYPES or not encoded:
        raise MalformedPacket(f"Packet that begins with {encoded[:8]!r}")
    return packet.Packet(int(encoded[0]), encoded[1:])


def read_body(environ: Environ, most: int) -> str | None:
    """Return the text of a request's body, or None where it has over `most` bytes: nothing beyond is read.

    Raises `UnicodeDecodeError`, and `OSError` for a body cut short.
    """
    length = environ.get("CONTENT_LENGTH")
    if length is not None and int(length) > most:
        return None
    body: bytes = environ["wsgi.input"].read(most + 1 if length is None else int(length))
    return body.decode() if len(body) <= most else None


def fits(message: str | bytes | bytearray, most: int) -> bool:
    """Tell whether a message is at most `most` bytes, as UTF-8 where it is text."""
    if isinstance(message, str) and len(message) <= most < 4 * len(message):
        return len(message.encode()) <= most
    return len(message) <= most
