"""The Engine.IO server: who may start a session, who may go on with one, and how each request is answered.

Overrides private methods of python-engineio 4.15.1 (`_handle_connect`, `_trigger_event`, `_cors_headers`).
"""

import secrets
from collections.abc import Callable
from typing import Any

import engineio
from engineio import packet

from transport import answers
from transport.affinity import SID_PATTERN as SID_PATTERN
from transport.answers import Answer, Body
from transport.engine_socket import EngineSocket
from transport.packets import MalformedPacket as MalformedPacket
from transport.requests import Environ, engine_request, is_websocket_handshake, requested_headers


def make_node_tag(host: int | None = None) -> str:
    """Return a new tag for this process: 8 lowercase hexadecimal digits. Call it after the fork.

    With a host's number, 0 to 255, the first two are that, so that what stands before several hosts can route by it.
    """
    return secrets.token_hex(4) if host is None else f"{host:02x}{secrets.token_hex(3)}"


class EngineServer(engineio.Server):  # type: ignore[misc]
    """engineio.Server with the faults of its connection handling mended; the message callback sees text as text."""

    sockets: dict[str, EngineSocket]
    start_service_task: bool

    def __init__(
        self,
        *,
        node_tag: str | None = None,
        connect_timeout: float = 10.0,
        max_connections: int = 20_000,
        accepting: Callable[[], bool] = lambda: True,
        cors_methods: str = "GET,POST,PUT,DELETE",
        **options: Any,
    ) -> None:
        """Take engineio.Server's `options` too. `connect_timeout` in seconds, 0: off; `cors_methods` by commas."""
        if options.get("cookie") is not None:
            raise ValueError("Session cookies are not supported: the session id is in the query.")
        options.setdefault("async_mode", "gevent")
        super().__init__(**options)
        self.node_tag = make_node_tag() if node_tag is None else node_tag
        self.connect_timeout = connect_timeout
        self.max_connections = max_connections
        self.accepting = accepting
        methods = [method.strip().upper() for method in cors_methods.split(",") if method.strip()]
        self._cors_methods = ", ".join(dict.fromkeys([*methods, "OPTIONS"]))

    def generate_id(self) -> str:
        """Return an id that matches `SID_PATTERN`: this worker's tag, then 120 random bits."""
        return self.node_tag + secrets.token_urlsafe(15)

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

    def close_transport(self, eio_sid: str, reason: str | None = None) -> None:
        """End a session and its TCP connection, and run its disconnect handlers. Clients come back by themselves."""
        session = self.sockets.get(eio_sid)
        if session is not None:
            session.close(reason=reason)

    def disconnect(self, sid: str | None = None) -> None:
        """End one session, or all."""
        for eio_sid in [sid] if sid is not None else list(self.sockets):
            self.close_transport(eio_sid)

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
            return answers.BAD_REQUEST
        if len(self.sockets) >= self.max_connections or not self.accepting():
            return answers.UNAVAILABLE
        return None

    def _session_refusal(self, environ: Environ, sid: str, transport: str | None) -> Answer | None:
        session = self.sockets.get(sid)
        if session is None or session.closing or not session.check_ping_timeout():
            return answers.SESSION_UNKNOWN
        if transport == "polling":
            return None if session.connected and not session.upgraded else answers.BAD_REQUEST
        may_upgrade = session.connected and self.allow_upgrades and not session.upgrading and not session.upgraded
        return None if may_upgrade and is_websocket_handshake(environ) else answers.BAD_REQUEST

    def handle_request(self, environ: Environ, start_response: Callable[..., Any]) -> Any:
        """Answer one request, as a WSGI application."""
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return self._respond(environ, start_response, answers.NO_CONTENT)
        refused = self.refusal(environ)
        if refused is not None:
            return self._respond(environ, start_response, refused)
        request = engine_request(environ)
        is_websocket = request.transport == "websocket"
        if is_websocket and environ.get("wsgi.websocket") is None:
            # The handler refused to open it a moment ago, and now it might: the client may try again.
            return self._respond(environ, start_response, answers.UNAVAILABLE)
        if request.sid is None:
            return self._handle_connect(environ, start_response, request.transport or "")
        session = self.sockets[request.sid]
        if is_websocket:
            return session.handle_get_request(environ, start_response)
        answer = session.answer_poll(environ) if request.method == "GET" else session.answer_post(environ)
        return self._respond(environ, start_response, answer)

    def _handle_connect(
        self, environ: Environ, start_response: Callable[..., Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        if self.start_service_task:
            self.start_service_task = False
            self.service_task_handle = self.start_background_task(self._service_task)
        sid = self.generate_id()
        session = self.sockets[sid] = EngineSocket(self, sid)
        handshake = {
            "sid": sid,
            "upgrades": self._upgrades(sid, transport),
            "pingTimeout": round(self.ping_timeout * 1000),
            "pingInterval": round((self.ping_interval + self.ping_interval_grace_period) * 1000),
            "maxPayload": self.max_http_buffer_size,
        }
        session.send(packet.Packet(packet.OPEN, handshake))
        accepted = False
        try:
            accepted = self._trigger_event("connect", sid, environ, run_async=False) in (None, True)
        finally:
            if not accepted:
                session.discard()
        if not accepted:
            return self._respond(environ, start_response, answers.FORBIDDEN)
        session.schedule_ping()
        session.expect_join()
        if transport == "websocket":
            return session.handle_get_request(environ, start_response)
        session.connected = True
        return self._respond(environ, start_response, session.answer_poll(environ))

    def _trigger_event(self, event: str, *args: Any, **options: Any) -> Any:
        # The stock one swallows what a message handler raises, so that a POST is answered 200 and lost.
        if event != "message" or options.get("run_async"):
            return super()._trigger_event(event, *args, **options)
        return self.handlers["message"](*args)

    def _is_origin_allowed(self, environ: Environ) -> bool:
        origin = environ.get("HTTP_ORIGIN")
        if not origin or self.cors_allowed_origins == []:
            return True
        allowed = self._cors_allowed_origins(environ)
        return allowed is None or origin in allowed

    def _cors_headers(self, environ: Environ) -> list[tuple[str, str]]:
        if self.cors_allowed_origins == []:
            return []
        headers = []
        if self._cors_allowed_origins(environ) is None:
            # Never with credentials: browsers refuse the pair, and reflecting the origin instead opens it to all.
            headers.append(("Access-Control-Allow-Origin", "*"))
        else:
            headers.append(("Vary", "Origin"))
            if not environ.get("HTTP_ORIGIN") or not self._is_origin_allowed(environ):
                return headers
            headers.append(("Access-Control-Allow-Origin", environ["HTTP_ORIGIN"]))
            if self.cors_credentials:
                headers.append(("Access-Control-Allow-Credentials", "true"))
        if environ["REQUEST_METHOD"] == "OPTIONS":
            headers.append(("Access-Control-Allow-Methods", self._cors_methods))
            names = requested_headers(environ)
            if names is not None:
                headers.append(("Access-Control-Allow-Headers", names))
        return headers

    def _respond(self, environ: Environ, start_response: Callable[..., Any], answer: Answer) -> Any:
        body, headers = answer.body, [*answer.headers, *self._cors_headers(environ)]
        if self.http_compression and len(body) >= self.compression_threshold:
            for coding in environ.get("HTTP_ACCEPT_ENCODING", "").split(","):
                name = coding.split(";")[0].strip()
                if name in self.compression_methods:
                    body = getattr(self, "_" + name)(body)
                    headers.append(("Content-Encoding", name))
                    break
        if answer is not answers.NO_CONTENT:
            headers.append(("Content-Length", str(len(body))))
        start_response(answer.status, headers)
        return [body] if answer.sent is None else Body(body, answer.sent)
