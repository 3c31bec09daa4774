"""A Flask app that was there before realtime: its own routes, its own error pages, namespaces of each kind."""

import ssl
import time
import urllib.request
from typing import Any

import msgspec
import socketio
from flask import Flask, jsonify, request
from socketio.exceptions import ConnectionRefusedError as Refused

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.errors import RealtimeError, Unavailable
from tests.integration.apps import measures

app = Flask(__name__)


@app.get("/")
def home() -> str:
    return "the app's own page"


@app.errorhandler(404)
def lost(_: Exception) -> tuple[str, int]:
    return "the app's own 404", 404


@app.errorhandler(ZeroDivisionError)
def divided(_: Exception) -> tuple[str, int]:
    return "the app's own error page", 500


@app.get("/divide")
def divide() -> str:
    return str(1 // 0)


@app.get("/fetch")
def fetch() -> str:
    """Ask another service by HTTPS, as views do."""
    trusted = ssl.create_default_context(cafile=request.args["ca"])
    with urllib.request.urlopen(request.args["url"], timeout=10, context=trusted) as answer:
        return answer.read().decode()


realtime = SocketManager(app)


@app.post("/cards")
def add_card() -> Any:
    return jsonify(
        offset=realtime.publish("acme", "/board", "card_added", request.json, room=request.args.get("room")).offset
    )


@app.post("/session-ticket")
def session_ticket() -> Any:
    ticket = realtime.issue_ticket("cookie-user", ["acme"], scope="flows:read")
    return jsonify(ticket=ticket, expiresAt=ticket.expires_at)


@app.post("/emit")
def emit() -> Any:
    """Call `Server.emit` with what the body says; answer what it raised."""
    try:
        realtime.server.emit(**request.get_json())
    except (ValueError, RealtimeError) as error:
        return jsonify(raised=type(error).__name__)
    return jsonify(raised=None)


@app.post("/ask")
def ask() -> Any:
    """Emit with a callback to a sid of any node, and return what it acked."""
    answers: list[Any] = []
    body = request.get_json()
    realtime.server.emit(
        "question",
        body["text"],
        to=body["sid"],
        namespace=body["namespace"],
        callback=lambda *args: answers.append(args),
    )
    deadline = time.monotonic() + 5
    while not answers and time.monotonic() < deadline:
        time.sleep(0.02)
    return jsonify(answers=answers)


@app.post("/burst")
def burst() -> Any:
    """Publish many events of one run, one at a time, from this process."""
    body = request.get_json()
    for nth in range(body["count"]):
        realtime.flows.progress("acme", body["flow"], body["run"], nth % 100, data={"by": "view", "nth": nth})
    return jsonify(published=body["count"])


@app.post("/late")
def late() -> Any:
    try:
        realtime.register_namespace(socketio.Namespace("/late"))
    except RuntimeError as error:
        return jsonify(raised=str(error))
    return jsonify(raised=None)


class Board(socketio.Namespace):  # type: ignore[misc]
    """Stock, authenticated."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("welcome", {"user": realtime.principal(sid, self.namespace).user_id}, to=sid)

    def on_disconnect(self, sid: str, reason: str) -> None:
        gone.append(realtime.principal(sid, self.namespace).user_id)

    def on_several(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return (*args, "and", {"more": [1, 2]})

    def on_nothing(self, sid: str) -> None: ...

    def on_one_list(self, sid: str) -> list[int]:
        return [1, 2, 3]

    def on_binary(self, sid: str, blob: bytes) -> bytes:
        return blob[::-1]

    def on_slow(self, sid: str) -> str:
        time.sleep(1.0)
        return "slow"

    def on_quick(self, sid: str) -> str:
        return "quick"

    def on_fail(self, sid: str) -> None:
        raise RuntimeError("a handler's own failure")

    def on_ask_me(self, sid: str) -> Any:
        return self.call("question", "why?", to=sid, timeout=5)

    def on_who(self, sid: str) -> dict[str, Any]:
        principal = realtime.principal(sid, self.namespace)
        return {"user": principal.user_id, "tenant": principal.tenant, "anonymous": principal.anonymous}

    def on_open_card(self, sid: str, card: str) -> None:
        realtime.enter_room(sid, self.namespace, card)

    def on_close_card(self, sid: str, card: str) -> None:
        realtime.leave_room(sid, self.namespace, card)

    def on_join_stock(self, sid: str, room: str) -> None:
        self.enter_room(sid, room)

    def on_gone(self, sid: str) -> list[str]:
        return gone

    def on_echo_all(self, sid: str, text: str) -> None:
        self.emit("echoed", text)

    def on_kick(self, sid: str, other: str) -> None:
        self.disconnect(other)

    def on_session(self, sid: str, value: Any = None) -> Any:
        with self.session(sid) as session:
            before = session.get("value")
            session["value"] = value
        return before


gone: list[str] = []


class Open(socketio.Namespace):  # type: ignore[misc]
    """Stock, for everyone."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("welcome", "stranger", to=sid)

    def on_hello(self, sid: str, *args: Any) -> Any:
        return ["hello", *args]


class Legacy(socketio.Namespace):  # type: ignore[misc]
    """Stock, with the connect handler of two arguments that the library takes from clients that send no payload."""

    def on_connect(self, sid: str, environ: dict[str, Any]) -> None:
        self.emit("welcome", "legacy", to=sid)


class Picky(socketio.Namespace):  # type: ignore[misc]
    """Stock; its connect handler does what the client asks for."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> Any:
        self.enter_room(sid, "early")
        mode = (auth or {}).get("mode")
        if mode == "false":
            return False
        if mode == "args":
            raise Refused("not you", {"code": "picky", "tries": 3}, "third")
        if mode == "bare":
            raise Refused()
        if mode == "raise":
            raise RuntimeError("a connect handler's own failure")
        if mode == "unavailable":
            raise Unavailable("Redis did not answer")
        if mode == "room":
            self.emit("early", "to a room", room="early")
            # A look into a database, say: the emit is back from Redis before this handler ends.
            time.sleep(0.1)
        if mode == "many":
            for number in range(20):
                self.emit("early", number, to=sid)
        return None

    def on_hello(self, sid: str) -> str:
        return "hello"


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Typed(Namespace):
    """Typed: acked and limited."""

    @handles(Text)
    def shout(self, client: Client, command: Text) -> dict[str, str]:
        return {"text": command.text.upper(), "user": client.principal.user_id}


class JoinFails(Namespace):
    """Typed, with a `joined` of its own that fails."""

    def joined(self, client: Client) -> None:
        raise RuntimeError("a joined of its own that fails")


class Replaced(socketio.Namespace):  # type: ignore[misc]
    def on_which(self, sid: str) -> str:
        return "earlier"


class Replacing(socketio.Namespace):  # type: ignore[misc]
    def on_which(self, sid: str) -> str:
        return "later"


for namespace in (Board("/board"), Picky("/picky"), Typed("/typed"), JoinFails("/join-fails"), Replaced("/replaced")):
    realtime.register_namespace(namespace)
realtime.register_namespace(Open("/open"), authenticate=False)
realtime.register_namespace(Legacy("/legacy"), authenticate=False)
realtime.register_namespace(Replacing("/replaced"))


@realtime.server.on("ping_me", namespace="/plain")
def ping_me(sid: str, *args: Any) -> Any:
    return "pong", *args


@realtime.server.on("ping_root")
def ping_root(sid: str) -> str:
    return "pong from /"


app.register_blueprint(measures.blueprint(realtime))
application = realtime.wsgi_app
