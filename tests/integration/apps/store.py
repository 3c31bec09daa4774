"""An ordinary Flask application with realtime added: a factory, a login by session, CSRF protection, own namespaces."""

import os
from typing import Any

import msgspec
import socketio
from flask import Flask, current_app, g, jsonify, request, session, url_for
from flask_wtf import CSRFProtect
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

from mintflow_realtime import Namespace, SocketManager, current_realtime, handles
from mintflow_realtime.admission.clients import Client

realtime = SocketManager()
csrf = CSRFProtect()
database = scoped_session(sessionmaker(create_engine("sqlite://")))


class Note(msgspec.Struct):
    text: str = ""


class Cart(socketio.Namespace):  # type: ignore[misc]
    """Stock."""

    def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        self.emit("welcome", [current_app.name, session.get("user")], to=sid)

    def on_disconnect(self, sid: str, reason: str) -> None:
        current_app.extensions["left"].append([current_app.name, session.get("user")])

    def on_who(self, sid: str) -> list[Any]:
        g.asked = g.get("asked", 0) + 1
        return [current_app.name, session.get("user"), g.asked, request.headers.get("X-Shop"), url_for("home")]

    def on_change(self, sid: str) -> str:
        try:
            session["user"] = "eve"
        except TypeError as error:
            return str(error)
        return "changed"

    def on_count(self, sid: str) -> list[int]:
        found = database.execute(text("select 42")).scalar_one()
        return [found, current_app.extensions["removed"]]

    def on_fail(self, sid: str) -> None:
        raise LookupError("a handler's own")

    def on_ended(self, sid: str) -> list[str]:
        return current_app.extensions["ended"]

    def on_left(self, sid: str) -> list[Any]:
        return current_app.extensions["left"]


class Orders(Namespace):
    """Typed."""

    def joined(self, client: Client) -> None:
        current_app.extensions["joined"].append(client.session.get("user"))

    @handles(Note)
    def place(self, client: Client, command: Note) -> dict[str, Any]:
        names = [current_app.name, client.session.get("user"), session.get("user")]
        return {"names": names, "realtime": current_realtime() is current_app.extensions["mintflow"]}

    @handles(Note)
    def fail(self, client: Client, command: Note) -> None:
        raise LookupError("a typed handler's own")

    @handles(Note)
    def joiners(self, client: Client, command: Note) -> list[Any]:
        return current_app.extensions["joined"]


realtime.register_namespace(Cart("/cart"))
realtime.register_namespace(Orders("/orders"))


def create_app(name: str = "store", **config: Any) -> Flask:
    """Return the application; `CSRF_FIRST` in the environment sets up its protection before realtime."""
    app = Flask(__name__)
    app.name = name
    app.config.update(SECRET_KEY="a secret of the store's own", TESTING=True, **config)
    app.extensions.update(ended=[], left=[], joined=[], removed=0)
    extensions = [csrf, realtime] if os.environ.get("CSRF_FIRST") else [realtime, csrf]
    for extension in extensions:
        extension.init_app(app)

    @app.extensions["mintflow"].server.on("who", namespace="/plain")
    def who(sid: str) -> list[Any]:
        return [current_app.name, session.get("user"), url_for("home")]

    @app.teardown_appcontext
    def end(error: BaseException | None) -> None:
        app.extensions["ended"].append(type(error).__name__)
        app.extensions["removed"] += database.registry.has()
        database.remove()

    @app.get("/")
    def home() -> str:
        return f"{name}: {request.remote_addr}"

    @app.post("/login/<user>")
    @csrf.exempt
    def login(user: str) -> str:
        session["user"] = user
        return realtime.issue_ticket(user, ["acme"]) if realtime.settings.jwt_secret else ""

    @app.post("/buy")
    def buy() -> Any:
        return "protected by a CSRF token"

    @app.post("/log/<text>")
    @csrf.exempt
    def log(text: str) -> Any:
        published = current_realtime().logs.append("acme", flow_id="buy", message=text)
        current_realtime().flows.started("acme", "buy", text)
        current_realtime().server.emit("logged", text, namespace="/cart")
        return jsonify(offsets=published.offsets)

    return app


def served() -> Any:
    return create_app().extensions["mintflow"].wsgi_app


class Counting:
    """Middleware that counts what it sees, and tells by a header."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        environ.setdefault("seen", []).append(self.name)
        seen = environ["seen"]

        def start(status: str, headers: Any, *rest: Any) -> Any:
            return start_response(status, [*headers, ("X-Seen", ",".join(seen))], *rest)

        return self.app(environ, start)


if os.environ.get("STORE_APPLICATION"):
    app = create_app()
    application = app.extensions["mintflow"].wsgi_app
