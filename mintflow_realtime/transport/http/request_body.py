"""The body of a request that pywsgi answers. Overrides private methods of gevent's pywsgi 26.9.0."""

from time import monotonic

from gevent.pywsgi import Input, _InvalidClientInput  # type: ignore[attr-defined]

from mintflow_realtime.transport.http.exchange import DISCARD_BYTES, DISCARD_SECONDS
from mintflow_realtime.transport.http.head_reader import BODY_SECONDS, HeadReader


class RequestBody(Input):
    """pywsgi's body, of which at most `DISCARD_BYTES` are read for nothing. What is left over ends the connection."""

    __slots__ = ("_reader",)
    _chunked_input_error: bool

    def __init__(self, reader: HeadReader, body: Input) -> None:
        super().__init__(reader, body.content_length, body.socket, body.chunked_input)  # type: ignore[arg-type]
        self._reader = reader

    def _discard(self) -> None:
        if self._chunked_input_error or self._reader.gone:
            raise _InvalidClientInput("The body ended early")
        unread = self.chunked_input and self.chunk_length != 0 or self.position < (self.content_length or 0)
        if not unread:
            return
        if self.socket is not None:
            raise _InvalidClientInput("The body was not asked for")
        deadline = monotonic() + DISCARD_SECONDS
        self._reader.timeout = DISCARD_SECONDS
        left = DISCARD_BYTES
        while left > 0 and monotonic() < deadline:
            read = self.read(16_384)
            if not read:
                self._reader.timeout = BODY_SECONDS
                return
            left -= len(read)
        raise _InvalidClientInput("The body is too long to be read for nothing")
