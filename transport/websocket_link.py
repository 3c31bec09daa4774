"""The WebSocket of one Engine.IO session: the upgrade, the reading, the writing, and the end of its TCP connection."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gevent
from engineio import packet
from gevent import socket as gevent_socket

from transport.deadline import Deadline
from transport.packets import MalformedPacket, fits

if TYPE_CHECKING:
    from transport.engine_socket import EngineSocket

logger = logging.getLogger(__name__)

LINGER_SECONDS = 1.0  # between our close frame and the end of the TCP connection
UPGRADE_SECONDS = 10.0  # Node's upgradeTimeout


class WebSocketLink:
    """Connects `session` to `ws`, a geventwebsocket WebSocket, whose own `close` leaves the TCP connection open."""

    def __init__(self, session: "EngineSocket", ws: Any) -> None:
        self._session = session
        self._ws = ws
        self._tcp = ws.handler.socket
        self._linger = Deadline()

    def run(self) -> None:
        """Serve until the connection or the session ends; return at once where an upgrade fails."""
        session = self._session
        try:
            if not session.connected:
                session.connected = session.upgraded = True
                self._exchange()
            elif self._probe():
                self._exchange()
        finally:
            self._linger.cancel()

    def end_soon(self) -> None:
        """Give the close frame and its answer a second, then end the TCP connection, whatever waits in it."""
        if not self._linger.armed:
            self._linger.start(LINGER_SECONDS, self._shut_down)

    def _probe(self) -> bool:
        """Take a polling session over; where that fails, polling goes on with its queue as it was."""
        session = self._session
        session.upgrading = True
        try:
            with gevent.Timeout(UPGRADE_SECONDS):
                if self._ws.receive() != "2probe":
                    return False
                self._ws.send("3probe")
                self._end_poll()
                session.upgraded = self._ws.receive() == "5" and not session.closing
        except (Exception, gevent.Timeout) as error:  # geventwebsocket raises many, struct.error among them
            logger.info("Session %s: the upgrade failed: %r", session.sid, error)
        finally:
            session.upgrading = False
        if session.upgraded:
            self._end_poll()
        return session.upgraded

    def _end_poll(self) -> None:
        if self._session.polling:
            self._session.queue.put(packet.Packet(packet.NOOP))

    def _exchange(self) -> None:
        session = self._session
        writer = gevent.spawn(self._write)
        reason = session.server.reason.TRANSPORT_ERROR
        try:
            if session.receive_all(self._messages()):
                reason = session.server.reason.TRANSPORT_CLOSE
        finally:
            session.close(reason=reason)
            writer.join()

    def _messages(self) -> Iterator[str | bytes | bytearray]:
        while not self._session.closing:
            try:
                message = self._ws.receive()
            except Exception as error:  # see _probe
                logger.debug("Session %s: the connection ended: %r", self._session.sid, error)
                return
            if message is None:
                return
            if not fits(message, self._session.server.max_http_buffer_size):
                raise MalformedPacket("Message too large")
            yield message

    def _write(self) -> None:
        session = self._session
        try:
            while not session.closing or not session.queue.empty():
                for pkt in session.take(None):
                    self._ws.send(pkt.encode())
        except OSError as error:
            logger.debug("Session %s: not written: %s", session.sid, error)
        finally:
            self._ws.close()
            self.end_soon()

    def _shut_down(self) -> None:
        try:
            self._tcp.shutdown(gevent_socket.SHUT_RDWR)
        except OSError:
            logger.debug("Session %s: the connection was closed already", self._session.sid)
