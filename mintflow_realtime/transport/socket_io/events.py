"""What clients say on a connection: every packet has one outcome, and nothing that they send can block the reading."""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from socketio import packet

from mintflow_realtime.metrics.series import RATE_LIMITED
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.loop.timer_wheel import Timer
from mintflow_realtime.transport.socket_io.dispatch import Dispatch
from mintflow_realtime.transport.socket_io.long_messages import LONG, LetGo
from mintflow_realtime.transport.socket_io.packet import (
    Head,
    Incoming,
    Partial,
    decode_after,
    event_after,
    name_of,
    read_head,
)

# A session keeps what its last CONNECTs said: this many bytes of each, which an idle connection can afford.
SAID_BYTES = 6
MAX_SAID = 16

_log = logging.getLogger("mintflow.sockets")


class Events(Dispatch):
    """The reading half of a Socket.IO server; the library's `Server` stands behind it.

    `pace(eio_sid)` says how many seconds a connection's next command in a typed namespace has to wait; below 0, that it
    is to be refused. It is asked before anything of the command is read.
    """

    pace: Callable[[str], float] = staticmethod(lambda eio_sid: 0.0)

    if TYPE_CHECKING:

        def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None: ...

        def _handle_disconnect(self, eio_sid: str, namespace: str | None, reason: str | None = None) -> None: ...

    def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        """Take a message; one that breaks the protocol closes the connection, and nothing else notices."""
        session = self.eio.sockets.get(eio_sid)
        if session is None or eio_sid not in self.environ:
            return
        try:
            if isinstance(data, str):
                if self._partial and eio_sid in self._partial:
                    raise ValueError("A text came where an attachment was due")
                self._take_text(session, data, read_head(data))
            else:
                self._take_attachment(session, data)
        except (ValueError, TypeError, RecursionError) as error:
            self._broken(session, error)

    def _take_text(self, session: Session, text: str, head: Head) -> None:
        """Act on a text now, or when its sender's rate and its outbox allow it. Raises ValueError."""
        if head.kind in (packet.EVENT, packet.BINARY_EVENT):
            if session.outbox is not None and self._waits_for_room(session, text, head):
                return
            if head.namespace in self.typed and session.introduced:
                seconds = self.pace(session.sid)
                if seconds < 0 and head.kind == packet.EVENT:
                    self._too_fast(session, text, head)
                    return
                if seconds:
                    RATE_LIMITED.add("slowed")
                    # Nothing more is read: its kernel's buffer fills, and then its own.
                    session.pause()
                    self.eio.timers.set(Timer(partial(self._go_on, session, text, head)), abs(seconds))
                    return
        if head.kind == packet.EVENT and len(text) <= LONG and session.introduced:
            # The way of nearly everything.
            event = event_after(head, text, self.packet_class.json.loads)
            self._take_event(session, head.namespace, head.id, event, None, False)
        else:
            self._take_in_time(session, text, head)

    def _take_in_time(self, session: Session, text: str, head: Head) -> None:
        if len(text) > LONG:
            if head.kind == packet.CONNECT or not session.introduced:
                # Nobody knows yet who this is.
                raise ValueError("A CONNECT, or what comes before it, of over 64 KB")
            self._settle(session, partial(self._read_long, text, head), partial(self._take, session, is_long=True))
        else:
            self._take(session, decode_after(head, text, self.packet_class.json.loads))

    def _waits_for_room(self, session: Session, text: str, head: Head) -> bool:
        """Tell whether an event waits until its sender has taken more of what it asked for before."""
        if session.room(partial(self._go_on, session, text, head, at_last=False)):
            return False
        session.pause()
        return True

    def _go_on(self, session: Session, text: str, head: Head, *, at_last: bool = True) -> None:
        """Act on a text that had to wait, and go on reading."""
        try:
            if not session.closing:
                (self._take_in_time if at_last else self._take_text)(session, text, head)
        except (ValueError, TypeError, RecursionError) as error:
            self._broken(session, error)
        finally:
            session.resume()

    def _too_fast(self, session: Session, text: str, head: Head) -> None:
        RATE_LIMITED.add("refused")
        handler = self.namespace_handlers[head.namespace]
        handler.busy(self._reply(session, head.namespace, head.id), name_of(text, head))

    def _take(
        self, session: Session, incoming: Incoming, let_go: LetGo | None = None, *, is_long: bool = False
    ) -> None:
        """Act on a packet, or wait for its attachments. Raises ValueError."""
        try:
            if incoming.kind >= packet.BINARY_EVENT:
                if self.manager.sid_from_eio_sid(session.sid, incoming.namespace) is None:
                    raise ValueError("Attachments before CONNECT")
                coming = Partial(incoming, self.eio.max_http_buffer_size, is_long=is_long, let_go=let_go)
                if incoming.attachments:
                    self._partial[session.sid] = coming
                    return
                self._complete(session, coming)
            else:
                self._act(session, incoming, let_go)
        except BaseException:
            self._let_go_soon(let_go)
            raise

    def _act(self, session: Session, incoming: Incoming, let_go: LetGo | None = None) -> None:
        kind, _, namespace, id, data = incoming
        if not session.introduced and kind != packet.CONNECT:
            raise ValueError("A packet before CONNECT")
        if kind in (packet.EVENT, packet.BINARY_EVENT):
            self._take_event(session, namespace, id, data, let_go, kind == packet.BINARY_EVENT)
        elif kind == packet.CONNECT:
            said, before = self._said(namespace, data), session.introduced
            if self.manager.sid_from_eio_sid(session.sid, namespace) is not None:
                if said not in (before[at : at + SAID_BYTES] for at in range(0, len(before), SAID_BYTES)):
                    raise ValueError("CONNECT to a namespace that this connection is in already")
                # An `auth` function of the stock client that called back twice.
                return
            session.introduced = before[-(MAX_SAID - 1) * SAID_BYTES :] + said
            self._settle(session, partial(self._handle_connect, session.sid, namespace, data))
        elif kind == packet.DISCONNECT:
            self._settle(session, partial(self._handle_disconnect, session.sid, namespace))
        else:
            self._take_ack(session.sid, namespace, id, data)
        if kind not in (packet.EVENT, packet.BINARY_EVENT):
            self._let_go_soon(let_go)

    def _said(self, namespace: str, data: Any) -> bytes:
        text = f"{namespace}\n{self.packet_class.json.dumps(data or None)}"
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=SAID_BYTES).digest()
