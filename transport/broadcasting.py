"""The sending half of the Engine.IO server: one message to many sessions, and many messages to each at once."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from transport.outgoing import Outgoing

if TYPE_CHECKING:
    from transport.session import Session


class Broadcasting:
    """Sends to sessions by their ids; those that are gone get nothing. Never blocks, never runs a handler."""

    sockets: dict[str, "Session"]

    def __init__(self, **options: Any) -> None:
        # The kernel's `send` of each session that may be sent to right away: a WebSocket for which nothing waits.
        # A broadcast looks here, and touches nothing else of a connection.
        self.direct: dict[str, Callable[[bytes], int]] = {}
        # What each session will be sent, while messages are sent together.
        self.waiting: dict[str, list[Outgoing]] | None = None
        self.together = Together(self)
        super().__init__(**options)

    def broadcast(self, sids: Iterable[str], message: Outgoing) -> None:
        """Send a message to many sessions."""
        waiting = self.waiting
        if waiting is not None:
            for sid in sids:
                hold(waiting, sid, message)
            return
        sockets, direct = self.sockets, self.direct
        frame = message.frame
        size = len(frame)
        for sid in sids:
            send = direct.get(sid)
            if send is None:
                session = sockets.get(sid)
                if session is not None:
                    session.post(message)
                continue
            try:
                sent = send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                continue  # the poller tells of it
            if sent != size:
                sockets[sid].cut(message, sent)

    def post(self, sid: str, message: Outgoing) -> None:
        """Send a message to one session."""
        if self.waiting is not None:
            hold(self.waiting, sid, message)
            return
        session = self.sockets.get(sid)
        if session is not None:
            session.post(message)

    def send(self, sid: str, data: Any) -> None:
        """Send a text or bytes to one session, as the library does."""
        self.post(sid, Outgoing("4" + data) if isinstance(data, str) else Outgoing("", (bytes(data),)))


class Together:
    """While entered, a server's messages wait; then each connection gets its own, in order, in one piece.

    Nobody may switch to another greenlet meanwhile, nor send past the server.
    """

    def __init__(self, server: "Broadcasting") -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.waiting = {}

    def __exit__(self, *_: object) -> None:
        server = self._server
        waiting, server.waiting = server.waiting, None
        if not waiting:
            return
        sockets, direct = server.sockets, server.direct
        # Most connections have the same messages: these are joined once.
        joined: dict[tuple[int, ...], bytes] = {}
        for sid, messages in waiting.items():
            send = direct.get(sid) if len(messages) > 1 else None
            if send is None:
                session = sockets.get(sid)
                if session is not None:
                    for message in messages:
                        session.post(message)
                continue
            key = tuple(map(id, messages))
            frames = joined.get(key)
            if frames is None:
                frames = joined[key] = b"".join([message.frame for message in messages])
            try:
                sent = send(frames)
            except BlockingIOError:
                sent = 0
            except OSError:
                continue  # the poller tells of it
            if sent != len(frames):
                sockets[sid].cut_within(messages, sent)


def hold(waiting: dict[str, list[Outgoing]], sid: str, message: Outgoing) -> None:
    """Let a message wait for `sid`."""
    of = waiting.get(sid)
    if of is None:
        waiting[sid] = [message]
    else:
        of.append(message)
