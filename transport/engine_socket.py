"""One Engine.IO session: polling, the upgrade and the WebSocket, each ending in exactly one disconnect event.

Overrides private methods of python-engineio 4.15.1 (`_websocket_handler`).
"""

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import gevent
from engineio import packet
from engineio.socket import Socket
from gevent.queue import Empty

from transport import answers
from transport.answers import Answer
from transport.deadline import Deadline
from transport.head import READER_KEY
from transport.packets import MalformedPacket, decode, read_body
from transport.requests import Environ
from transport.websocket_link import WebSocketLink

if TYPE_CHECKING:
    from transport.engine import EngineServer

logger = logging.getLogger(__name__)

PROBING_POLL_SECONDS = 0.1  # Node's interval of NOOPs while a probe is under way
PACKETS_A_POLL = 16  # python-engineio's client breaks off at more (payload.max_decode_packets)
PACKETS_A_TURN = 256  # of one client, before other greenlets get a turn


class EngineSocket(Socket):  # type: ignore[misc]
    """A session that is in `server.sockets` from its handshake until its disconnect handlers have run."""

    server: "EngineServer"
    last_ping: float | None
    connected: bool
    upgrading: bool
    upgraded: bool
    closing: bool
    closed: bool

    def __init__(self, server: "EngineServer", sid: str) -> None:
        super().__init__(server, sid)
        self._join_deadline = Deadline()
        self._next_ping = Deadline()
        self.polling = False
        self._posting = False
        self._client_closed = False
        self._link: WebSocketLink | None = None

    def expect_join(self) -> None:
        """Close this connection unless it joins a namespace within the server's `connect_timeout`."""
        if not self.closing and self.server.connect_timeout > 0:
            self._join_deadline.start(self.server.connect_timeout, self._leave_soon)

    def joined(self) -> None:
        self._join_deadline.cancel()

    def schedule_ping(self) -> None:
        """Ping in `ping_interval` seconds, unless the previous ping is yet to be sent."""
        if self.last_ping:
            self.last_ping = None
            self._next_ping.start(self.server.ping_interval, self._ping)

    def _ping(self) -> None:
        self.last_ping = time.time()
        self.send(packet.Packet(packet.PING))

    def send(self, pkt: Any) -> None:
        """Queue a packet; one for a session that is ending is dropped. Never runs a disconnect handler."""
        if not self.closing:
            self.queue.put(pkt)

    def receive(self, pkt: Any) -> None:
        """Act on one packet of the client. Raises `MalformedPacket`, and whatever the message handler raises."""
        if pkt.packet_type == packet.MESSAGE:
            self.server._trigger_event("message", self.sid, pkt.data, run_async=self.server.async_handlers)
        elif pkt.packet_type == packet.PONG:
            self.schedule_ping()
        elif pkt.packet_type == packet.CLOSE:
            self._client_closed = True
            self.close(reason=self.server.reason.CLIENT_DISCONNECT)
        elif pkt.packet_type not in (packet.UPGRADE, packet.NOOP):
            raise MalformedPacket(f"Packet of type {pkt.packet_type}")

    def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None, farewell: int = packet.NOOP
    ) -> None:
        """End the session: wake the poll or the writer, end the TCP connection within a second, run the handlers.

        A waiting poll is answered with `farewell`. NOOP by default: the client's next request then fails and it
        reconnects, while python-engineio's client takes a CLOSE packet as final. `wait` and `abort` have no meaning.
        """
        if self.closing:
            return
        self.closing = True
        self._join_deadline.cancel()
        self._next_ping.cancel()
        if self._link is not None:
            self._link.end_soon()
        if not self.upgraded:
            self.queue.put(packet.Packet(farewell))
        self.queue.put(None)
        try:
            self.server._trigger_event(
                "disconnect", self.sid, reason or self.server.reason.SERVER_DISCONNECT, run_async=False
            )
        finally:
            self.closed = True
            self.server.sockets.pop(self.sid, None)

    def discard(self) -> None:
        """End a session that was refused before the client knew it: no disconnect event."""
        self.closing = self.closed = True
        self._join_deadline.cancel()
        self.server.sockets.pop(self.sid, None)

    def answer_poll(self, environ: Environ) -> Answer:
        """Wait for packets and return them. A second poll at once, and a client that goes away, end the session."""
        if self.polling:
            self.close(reason=self.server.reason.TRANSPORT_ERROR, farewell=packet.CLOSE)
            return answers.BAD_REQUEST
        self.polling = True
        probing = self.upgrading
        reader = environ.get(READER_KEY)
        end_watch = reader.watch_peer(self._client_left) if reader is not None else None
        try:
            packets = self.take(PROBING_POLL_SECONDS if probing else self._silence, PACKETS_A_POLL)
        except BaseException:
            self.polling = False
            self.close(reason=self.server.reason.TRANSPORT_ERROR)
            raise
        finally:
            if end_watch is not None:
                end_watch()
        if not packets and not probing and not self.closing:
            # Answered as a poll that the watch over all sessions ends; the next one is told that there is no session.
            self.close(reason=self.server.reason.PING_TIMEOUT)
        body = "\x1e".join(pkt.encode(b64=True) for pkt in packets or [packet.Packet(packet.NOOP)])
        return Answer("200 OK", body.encode(), sent=self._poll_sent)

    def answer_post(self, environ: Environ) -> Answer:
        """Handle all packets of a polling request's body. Anything wrong with it ends the session."""
        if self._posting:
            self.close(reason=self.server.reason.TRANSPORT_ERROR)
            return answers.BAD_REQUEST
        self._posting = True
        answer = answers.BAD_REQUEST
        try:
            body = read_body(environ, self.server.max_http_buffer_size)
            if body is None:
                answer = answers.TOO_LARGE
            elif self.receive_all(body.split("\x1e")) and (self._client_closed or not self.closing):
                return answers.OK
        except (UnicodeDecodeError, OSError) as error:
            logger.info("Session %s: unreadable request: %r", self.sid, error)
        finally:
            self._posting = False
        self.close(reason=self.server.reason.TRANSPORT_ERROR)
        return answer

    def receive_all(self, encoded: Iterable[str | bytes | bytearray]) -> bool:
        """Act on packets until the session ends; False where one of them was wrong or failed."""
        try:
            for number, one in enumerate(encoded, 1):
                if self.closing:
                    break
                self.receive(decode(one))
                if number % PACKETS_A_TURN == 0:
                    gevent.sleep(0)
            return True
        except MalformedPacket as error:
            logger.info("Session %s: %s", self.sid, error)
        except Exception:
            logger.exception("Session %s: error while a message was handled", self.sid)
        return False

    def _websocket_handler(self, ws: Any) -> list[bytes]:
        """Serve a WebSocket that was just opened: the whole session's, or the one that it upgrades to."""
        self._link = WebSocketLink(self, ws._sock)
        try:
            self._link.run()
        finally:
            self._link = None
        return []

    def take(self, seconds: float | None, most: int | None = None) -> list[Any]:
        """Return at most `most` queued packets, waiting up to `seconds` for the first; none then, or at the end."""
        try:
            taken = [self.queue.get(timeout=seconds)]
        except Empty:
            return []
        while taken[-1] is not None and len(taken) != most and not self.queue.empty():
            taken.append(self.queue.get(block=False))
        return taken[:-1] if taken[-1] is None else taken

    @property
    def _silence(self) -> float:
        return float(self.server.ping_interval + self.server.ping_timeout)

    def _poll_sent(self, whole: bool) -> None:
        self.polling = False
        if not whole:
            self.close(reason=self.server.reason.TRANSPORT_ERROR)

    def _client_left(self) -> None:
        gevent.spawn(self.close, reason=self.server.reason.TRANSPORT_ERROR)

    def _leave_soon(self) -> None:
        gevent.spawn(self.close, reason=self.server.reason.SERVER_DISCONNECT)
