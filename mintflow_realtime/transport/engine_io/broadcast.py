"""The sending half of the Engine.IO server: one message to many sessions, and many messages to each at once."""

from collections.abc import Callable, Collection
from typing import Any

from mintflow_realtime.metrics.series import SENT_BYTES, SENT_PACKETS
from mintflow_realtime.transport.engine_io.context import SessionContext
from mintflow_realtime.transport.engine_io.message import Message
from mintflow_realtime.transport.engine_io.session import Session


class Broadcasting(SessionContext):
    """Sends to sessions by their ids; those that are gone get nothing. Never blocks, never runs a handler."""

    sockets: dict[str, Session]

    def __init__(self, **options: Any) -> None:
        # A broadcast looks here, and touches nothing else of a connection.
        self.direct: dict[str, Callable[[bytes], int]] = {}
        # What each session will be sent, while messages are sent together.
        self.waiting: dict[str, list[Message]] | None = None
        self.cork = Cork(self)
        super().__init__(**options)

    def broadcast(self, sids: Collection[str], message: Message) -> None:
        """Send a message to many sessions."""
        waiting = self.waiting
        if waiting is not None:
            for sid in sids:
                hold(waiting, sid, message)
            return
        sockets, direct = self.sockets, self.direct
        frame = message.frame
        size, others = len(frame), 0
        for sid in sids:
            send = direct.get(sid)
            if send is None:
                others += 1
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
        # A session that is posted to counts by itself.
        SENT_PACKETS.value += len(sids) - others
        SENT_BYTES.value += (len(sids) - others) * size

    def post(self, sid: str, message: Message) -> None:
        """Send a message to one session."""
        if self.waiting is not None:
            hold(self.waiting, sid, message)
            return
        session = self.sockets.get(sid)
        if session is not None:
            session.post(message)

    def send(self, sid: str, data: Any) -> None:
        """Send a text or bytes to one session, as the library does."""
        self.post(sid, Message("4" + data) if isinstance(data, str) else Message("", (bytes(data),)))


class Cork:
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
            SENT_PACKETS.value += len(messages)
            SENT_BYTES.value += len(frames)
            try:
                sent = send(frames)
            except BlockingIOError:
                sent = 0
            except OSError:
                continue  # the poller tells of it
            if sent != len(frames):
                sockets[sid].cut_within(messages, sent)


def hold(waiting: dict[str, list[Message]], sid: str, message: Message) -> None:
    """Let a message wait for `sid`."""
    of = waiting.get(sid)
    if of is None:
        waiting[sid] = [message]
    else:
        of.append(message)
