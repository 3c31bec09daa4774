"""The Engine.IO server: who may start a session, who may go on with one, and how each request is answered.

Overrides private methods of python-engineio 4.15.1 (`docs/contracts.md`).
"""

import json
from collections.abc import Callable
from time import monotonic
from typing import Any

import engineio

from mintflow_realtime.transport.engine_io import response as answers
from mintflow_realtime.transport.engine_io.broadcast import Broadcasting
from mintflow_realtime.transport.engine_io.environ import ReducedEnviron
from mintflow_realtime.transport.engine_io.message import Message
from mintflow_realtime.transport.engine_io.polling import Polling
from mintflow_realtime.transport.engine_io.request import engine_request, is_websocket_handshake
from mintflow_realtime.transport.engine_io.responding import Responding, count
from mintflow_realtime.transport.engine_io.response import Answer
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.engine_io.session_id import make_node_tag, new_session_id
from mintflow_realtime.transport.engine_io.upgrade import Upgrade
from mintflow_realtime.transport.http.environ import Environ, asks_for_upgrade
from mintflow_realtime.transport.http.streams import Streams
from mintflow_realtime.transport.loop.greenlet_pool import GreenletPool
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel
from mintflow_realtime.transport.websocket import frames
from mintflow_realtime.transport.websocket.connection import WebSocket
from mintflow_realtime.transport.websocket.handshake import switching

MAX_DISCONNECT_HANDLERS = 128
"""How many disconnect handlers run at once."""


class EngineServer(Broadcasting, Responding, engineio.Server):  # type: ignore[misc]
    """engineio.Server with the faults of its connection handling mended; the message callback sees text as text."""

    def __init__(
        self,
        *,
        node_tag: str | None = None,
        connect_timeout: float = 10.0,
        max_connections: int = 20_000,
        outbox_bytes: int = 1_048_576,
        accepting: Callable[[], bool] = lambda: True,
        cors_methods: str = "GET,POST,PUT,DELETE",
        **options: Any,
    ) -> None:
        """Take engineio.Server's `options` too. `connect_timeout` in seconds, 0: off; `cors_methods` by commas.

        `outbox_bytes`: what may wait for one client. `accepting` says whether new sessions may start; it may block.
        """
        if options.get("cookie") is not None:
            raise ValueError("Session cookies are not supported: the session id is in the query.")
        options.setdefault("async_mode", "gevent")
        super().__init__(**options, monitor_clients=False)
        self.poller, self.timers, self.greenlets = Poller(), TimerWheel(), GreenletPool()
        self.disconnect_greenlets = GreenletPool(MAX_DISCONNECT_HANDLERS)
        self.outbox_bytes = outbox_bytes
        # Server-sent events, which end with the sessions.
        self.streams = Streams(self.poller, self.timers, outbox_bytes)
        self.draining = False
        # Until then (monotonic seconds) no new session is begun: what sessions need can't be had at the moment.
        self.busy_until = 0.0
        self.node_tag = make_node_tag() if node_tag is None else node_tag
        self.connect_timeout = connect_timeout
        self.max_connections = max_connections
        self.accepting = accepting
        self.set_cors_methods(cors_methods)

    def generate_id(self) -> str:
        """Return an id that matches `SID_PATTERN`: this worker's tag, then 120 random bits."""
        return new_session_id(self.node_tag)

    def joined(self, eio_sid: str) -> None:
        """Note that a connection is in a namespace, so that it may stay."""
        session = self.sockets.get(eio_sid)
        if session is not None:
            session.joined()

    def left(self, eio_sid: str) -> None:
        """Note that a connection is in no namespace any more: it has `connect_timeout` to join one."""
        session = self.sockets.get(eio_sid)
        if session is not None:
            session.expect_join()

    def close_transport(self, eio_sid: str, reason: str | None = None, *, going_away: bool = False) -> None:
        """End a session and its TCP connection, and run its disconnect handlers. Clients come back by themselves."""
        session = self.sockets.get(eio_sid)
        if session is not None:
            session.close(reason, frames.GOING_AWAY if going_away else frames.NORMAL)

    def disconnect(self, sid: str | None = None) -> None:
        """End one session, or all."""
        for eio_sid in [sid] if sid is not None else list(self.sockets):
            self.close_transport(eio_sid)

    def transport(self, sid: str) -> str:
        """Return which transport a session is on, `polling` or `websocket`. Raises KeyError where there is none."""
        return "websocket" if self.sockets[sid].polling is None else "polling"

    def close(self) -> None:
        """Let go of what this server holds of the process, once its sessions have ended."""
        self.timers.close()
        self.poller.close()
        self.greenlets.close()
        self.disconnect_greenlets.close()

    def refusal(self, environ: Environ) -> Answer | None:
        """Return the answer to a request that can't be served as it stands; before any 101, and without reading."""
        if not self._is_origin_allowed(environ):
            return answers.FORBIDDEN
        request = engine_request(environ)
        if request.jsonp:
            return answers.BAD_REQUEST
        if request.transport not in self.transports:
            return answers.TRANSPORT_UNKNOWN
        if request.method not in ("GET", "POST"):
            return answers.BAD_METHOD
        if request.sid is not None:
            return self._session_refusal(environ, request.sid, request.transport)
        if request.method != "GET":
            return answers.BAD_METHOD
        if request.version != "4":
            return answers.UNSUPPORTED_VERSION
        if request.transport == "websocket" and not is_websocket_handshake(environ):
            return _not_a_handshake(environ)
        # Looked at last: accepting may take a moment, in which draining may begin.
        if monotonic() < self.busy_until or not self.accepting() or not self.has_room():
            return answers.UNAVAILABLE
        return None

    def has_room(self) -> bool:
        """Tell whether another connection may be held."""
        return not self.draining and len(self.sockets) + len(self.streams) < self.max_connections

    def _session_refusal(self, environ: Environ, sid: str, transport: str | None) -> Answer | None:
        session = self.sockets.get(sid)
        if session is None or session.closing:
            fetches = session is not None and session.last_words and transport == "polling"
            return None if fetches and environ["REQUEST_METHOD"] == "GET" else answers.SESSION_UNKNOWN
        if transport == "polling":
            if session.overdue:
                session.close(self.reason.PING_TIMEOUT)
                return answers.SESSION_UNKNOWN
            return answers.BAD_REQUEST if session.polling is None else None
        if not is_websocket_handshake(environ):
            return _not_a_handshake(environ)
        return None if self.allow_upgrades else answers.BAD_REQUEST

    def handle_request(self, environ: Environ, start_response: Callable[..., Any]) -> Any:
        """Answer one request, as a WSGI application."""
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._respond(environ, start_response, answers.NO_CONTENT)
        refused = self.refusal(environ)
        if refused is not None:
            return self._respond(environ, start_response, refused)
        request = engine_request(environ)
        if request.transport == "websocket":
            # Those that may be opened never come here, but where the answer changed in between.
            return self._respond(environ, start_response, answers.UNAVAILABLE)
        polling = (self._start_polling(environ) if request.sid is None else self.sockets[request.sid]).polling
        if polling is None:
            return self._respond(environ, start_response, answers.FORBIDDEN)
        answer = polling.answer_poll(environ) if request.method == "GET" else polling.answer_post(environ)
        return self._respond(environ, start_response, answer)

    def open_websocket(
        self, environ: Environ, sock: Any, read: bytes, ended: Callable[[], object] | None = None
    ) -> None:
        """Open a WebSocket that `refusal` allows: that of a new session, or one that a session may upgrade to.

        `sock` is the kernel's own, non-blocking, and ours from now on; `read` came behind the request.
        `ended` is called when its TCP connection has.
        """
        count("GET", "101")
        greeting = switching(environ["HTTP_SEC_WEBSOCKET_KEY"], environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", ""))
        sid = engine_request(environ).sid
        session = self.sockets.get(sid) if sid is not None else None
        if session is not None:
            upgrade = Upgrade(session)
            link = WebSocket(sock, upgrade, self.poller, self.timers, self.max_http_buffer_size, ended)
            link.greet(greeting)
            if session.polling is None or session.upgrading is not None:
                # Opened and closed, as by Node's: the session goes on with what it has.
                link.start()
                link.finish(frames.NORMAL)
            else:
                upgrade.begin(link, read)
            return
        session = Session(self, self.generate_id())
        link = session.link = WebSocket(sock, session, self.poller, self.timers, self.max_http_buffer_size, ended)
        try:
            link.greet(greeting + self._begin(session, environ, []).frame)
        except BaseException:
            link.abort()
            raise
        session.flows()
        link.start(read)

    def _start_polling(self, environ: Environ) -> Session:
        upgrades = ["websocket"] if self.allow_upgrades and "websocket" in self.transports else []
        session = Session(self, self.generate_id())
        session.polling = Polling(session)
        session.post(self._begin(session, environ, upgrades))
        return session

    def _begin(self, session: Session, environ: Environ, upgrades: list[str]) -> Message:
        self.sockets[session.sid] = session
        try:
            self.handlers["connect"](session.sid, ReducedEnviron(environ))
        except BaseException:
            session.discard()
            raise
        session.begin()
        handshake = {
            "sid": session.sid,
            "upgrades": upgrades,
            "pingTimeout": round(self.ping_timeout * 1000),
            "pingInterval": round(self.ping_interval * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        return Message("0" + json.dumps(handshake, separators=(",", ":")))


def _not_a_handshake(environ: Environ) -> Answer:
    other_version = asks_for_upgrade(environ) and environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != "13"
    return answers.UPGRADE_REQUIRED if other_version else answers.BAD_REQUEST
