"""Engine.IO packets from their wire form, and the bounds of what they may be."""

import base64

from engineio.exceptions import EngineIOError

from mintflow_realtime.transport.http.environ import Environ


class MalformedPacket(EngineIOError):  # type: ignore[misc]
    """The client broke the protocol: its session is closed, without a traceback."""


def attachment(encoded: str) -> bytes:
    """Return the bytes of a packet in base64, which begins with `b`. Raises `MalformedPacket`."""
    try:
        return base64.b64decode(encoded[1:], validate=True)
    except ValueError as error:
        raise MalformedPacket(f"Base64: {error}") from error


def read_body(environ: Environ, most: int) -> str | None:
    """Return the text of a request's body, or None where it has over `most` bytes: nothing beyond is read.

    Raises `UnicodeDecodeError`, and `OSError` for a body cut short.
    """
    length = environ.get("CONTENT_LENGTH")
    if length is not None and int(length) > most:
        return None
    body: bytes = environ["wsgi.input"].read(most + 1 if length is None else int(length))
    return body.decode() if len(body) <= most else None
