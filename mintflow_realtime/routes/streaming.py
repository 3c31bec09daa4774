"""Answers of unknown length, sent as they are made. One that can't be completed is cut, so that its reader sees it."""

import logging
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from flask import Response, request

from mintflow_realtime.protocol.errors import RealtimeError

_log = logging.getLogger("mintflow.routes")

# 128 KB of records in 2 ms, to a sixth of their size.
_LEVEL = 3
# A gzip header and trailer around it.
_GZIP = 16 + zlib.MAX_WBITS


class Pieces(Protocol):
    """What is sent: iterated over at most once, closed in any case."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


def stream(pieces: Pieces, content_type: str) -> Response:
    """Return a response of `pieces`, as gzip for who accepts that. A RealtimeError of theirs cuts it."""
    sent = _until_cut(pieces, str(request.url_rule))
    response = Response(content_type=content_type)
    response.call_on_close(pieces.close)
    if request.accept_encodings.quality("gzip") > 0:
        sent = _zipped(sent)
        response.headers["Content-Encoding"] = "gzip"
    response.response = sent
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = "no-store"
    return response


def _until_cut(pieces: Iterable[bytes], rule: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except RealtimeError as error:
        _log.warning("The answer to %s was cut: %s", rule, error)
        # Servers then end the connection, and send no last chunk.
        raise ConnectionAbortedError("The answer can't be completed") from None


def _zipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()
