"""The long-polling side of a session: one GET that waits for packets, one POST at a time that brings some."""

import logging

import gevent
from gevent.event import Event

from mintflow_realtime.metrics.series import RECEIVED_BYTES
from mintflow_realtime.transport.engine_io import response as answers
from mintflow_realtime.transport.engine_io.message import NOOP
from mintflow_realtime.transport.engine_io.packet import MalformedPacket, read_body
from mintflow_realtime.transport.engine_io.response import Answer
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.http.environ import Environ
from mintflow_realtime.transport.http.head_reader import READER_KEY, HeadReader

logger = logging.getLogger(__name__)

PROBING_POLL_SECONDS = 0.1  # Node's interval of NOOPs while a probe is under way
PACKETS_A_POLL = 16  # python-engineio's client breaks off at more (payload.max_decode_packets)
PACKETS_A_TURN = 256  # of one client, before other greenlets get a turn
# A timer: after `sleep(0)` the loop goes on here fifty times before it looks at its sockets.
TURN_SECONDS = 0.0001
CLOSE_PACKET, NOOP_PACKET = "1", NOOP.text


class Polling:
    """Exists from a session's handshake over HTTP until its upgrade.

    A waiting poll is answered with NOOP when the session ends: the client's next request then fails and it reconnects,
    while python-engineio's client takes a CLOSE packet as final.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._arrived = Event()
        self._resumed = Event()
        self._waiting = False
        self._posting = False
        self._body: HeadReader | None = None
        self._farewell = NOOP_PACKET
        self._upgraded = False
        self.client_closed = False

    @property
    def waiting(self) -> bool:
        """Tell whether a poll is open."""
        return self._waiting

    def wake(self) -> None:
        """Let the open poll look: something waits, an upgrade began, or the session ends."""
        self._arrived.set()

    def resumed(self) -> None:
        """Let the open POST go on."""
        self._resumed.set()

    def end(self) -> None:
        """Let go of both requests: the session has ended."""
        self._arrived.set()
        self._resumed.set()
        if self._body is not None:
            # What still comes of it is nobody's.
            self._body.give_up()

    def upgraded(self) -> None:
        """Answer the open poll, if there is one: what waits goes over the WebSocket."""
        self._upgraded = True
        self._arrived.set()

    def answer_poll(self, environ: Environ) -> Answer:
        """Wait for packets and return them. A second poll at once, and a client that goes away, end the session."""
        session = self._session
        if self._waiting:
            self._farewell = CLOSE_PACKET
            session.close(session.context.reason.TRANSPORT_ERROR)
            return answers.BAD_REQUEST
        self._waiting = True
        reader = environ.get(READER_KEY)
        end_watch = reader.watch_peer(self._client_left) if reader is not None and session.outbox is None else None
        try:
            packets = self._await_packets()
        except BaseException:
            self._waiting = False
            session.close(session.context.reason.TRANSPORT_ERROR)
            raise
        finally:
            if end_watch is not None:
                end_watch()
        if session.closed:
            session.forget()
        body = "\x1e".join(packets or [self._farewell if session.closing else NOOP_PACKET])
        return Answer("200 OK", body.encode(), sent=self._poll_sent)

    def _await_packets(self) -> list[str]:
        """Return what waits, at most `PACKETS_A_POLL`; nothing at the end, in an upgrade, and after long silence."""
        session = self._session
        context = session.context
        seconds = PROBING_POLL_SECONDS if session.upgrading else context.ping_interval + context.ping_timeout
        if session.outbox is None and not session.closing and not self._upgraded:
            self._arrived.clear()
            if not self._arrived.wait(seconds) and not session.upgrading:
                session.close(context.reason.PING_TIMEOUT)
        packets: list[str] = []
        outbox = session.outbox
        if outbox is not None and not self._upgraded:
            while (message := outbox.peek()) is not None:
                if packets and len(packets) + len(message.packets) > PACKETS_A_POLL:
                    break
                packets += message.packets
                outbox.take()
            if outbox.empty:
                session.outbox = None
                session.emptied(outbox)
            session.took()
            session.tell_dropped(outbox)
        return packets

    def answer_post(self, environ: Environ) -> Answer:
        """Handle all packets of a polling request's body. Anything wrong with it ends the session."""
        session = self._session
        if self._posting:
            session.close(session.context.reason.TRANSPORT_ERROR)
            return answers.BAD_REQUEST
        self._posting = True
        answer = answers.BAD_REQUEST
        try:
            self._body = environ.get(READER_KEY)
            body = read_body(environ, session.context.max_http_buffer_size)
            self._body = None
            if body is None:
                answer = answers.TOO_LARGE
            elif self._receive_counted(body) and (self.client_closed or not session.closing):
                return answers.OK
        except (UnicodeDecodeError, OSError) as error:
            logger.info("Session %s: unreadable request: %r", session.sid, error)
        finally:
            self._posting, self._body = False, None
        session.close(session.context.reason.TRANSPORT_ERROR)
        return answer

    def _receive_counted(self, body: str) -> bool:
        # A body is mostly ASCII; to encode it anew would cost more than the number is worth.
        RECEIVED_BYTES.value += len(body)
        return self._receive_all(body.split("\x1e"))

    def _receive_all(self, packets: list[str]) -> bool:
        """Act on packets until the session ends; False where one of them was wrong or failed."""
        session = self._session
        try:
            for number, packet in enumerate(packets, 1):
                session.receive(packet)
                if session.closing:
                    break
                if session.paused:
                    self._resumed.clear()
                    self._resumed.wait()
                elif number % PACKETS_A_TURN == 0:
                    gevent.sleep(TURN_SECONDS)
            return True
        except MalformedPacket as error:
            logger.info("Session %s: %s", session.sid, error)
        except Exception:
            logger.exception("Session %s: error while a message was handled", session.sid)
        return False

    def _poll_sent(self, whole: bool) -> None:
        self._waiting = False
        if not whole:
            self._session.close(self._session.context.reason.TRANSPORT_ERROR)

    def _client_left(self) -> None:
        self._session.close(self._session.context.reason.TRANSPORT_ERROR)
