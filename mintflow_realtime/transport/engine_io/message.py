"""What is sent to clients: encoded once, whatever their number and transport."""

import base64
from typing import NamedTuple

from mintflow_realtime.transport.websocket import frames

CLOSE, DROP_OLDEST, LATEST_ONLY, MERGE = "close", "drop_oldest", "latest_only", "merge"
ANSWER = "answer"
"""The policy of what a client asked for: it counts as nothing in its outbox, and what it asks next waits instead."""


class Slow(NamedTuple):
    """What a full outbox means for a message: a policy, and the key by which messages belong together."""

    policy: str = CLOSE
    key: str = ""


UNASKED = Slow()
ASKED_FOR = Slow(ANSWER)


class Message:
    """One Engine.IO packet as text, and the attachments of its Socket.IO packet: together or not at all.

    `frame` is what goes over a WebSocket and `packets` what a polling request is answered with; each is made once, when
    somebody first needs it. What waits in an outbox is held once: the frames, from which the text can be had again.
    `mark` is what its sender knows it by.
    """

    __slots__ = ("attachments", "slow", "mark", "_text", "_frame", "_packets")

    def __init__(self, text: str, attachments: tuple[bytes, ...] = (), slow: Slow = UNASKED, mark: str = "") -> None:
        self.attachments, self.slow, self.mark = attachments, slow, mark
        self._text: str | None = text
        self._frame: bytes | None = None
        self._packets: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """The packet, without its attachments; empty for attachments alone."""
        if self._text is None:
            assert self._frame is not None
            return frames.text_of(self._frame)
        return self._text

    @property
    def frame(self) -> bytes:
        """The bytes of the WebSocket frames."""
        made = self._frame
        if made is None:
            text = self._text
            made = frames.frame(frames.TEXT, text.encode()) if text else b""
            if self.attachments:
                made += b"".join(frames.frame(frames.BINARY, part) for part in self.attachments)
            elif text:
                self._text = None
            self._frame = made
        return made

    @property
    def packets(self) -> tuple[str, ...]:
        """The packets of an HTTP payload: binary ones in base64."""
        if self._packets is None:
            text = (self.text,) if self.text else ()
            self._packets = (*text, *("b" + base64.b64encode(part).decode() for part in self.attachments))
        return self._packets

    @property
    def size(self) -> int:
        """Bytes that it takes in an outbox, over whatever transport: its frames, and attachments beside them."""
        return len(self.frame) + sum(map(len, self.attachments)) if self.attachments else len(self.frame)


class Pong(Message):
    """The answer to a WebSocket's ping: of several that wait only the last is owed (RFC 6455, section 5.5.3)."""

    def __init__(self, payload: bytes) -> None:
        super().__init__("", slow=Slow(LATEST_ONLY, "\0pong"))
        self._frame = frames.frame(frames.PONG, payload)
        self._packets = ()


class Closing(Message):
    """The close frame of a WebSocket behind what still waits for it."""

    def __init__(self, code: int) -> None:
        super().__init__("")
        self._frame = frames.close_frame(code)
        self._packets = ()


PING = Message("2")
PROBE_ANSWER = Message("3probe")
NOOP = Message("6")
