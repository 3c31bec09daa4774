"""A small application with realtime, for the tests of `mintflow_realtime.testing`: a list of things to do."""

import os
import time
from typing import Any

import msgspec
import socketio
from flask import Flask, request

from mintflow_realtime import Namespace, Settings, SocketManager, errors, handles


class Add(msgspec.Struct, forbid_unknown_fields=True):
    """What `add` takes."""

    text: str


class TodoNamespace(Namespace):
    """/todo: `add` tells everybody of the tenant."""

    def __init__(self, namespace: str, manager: SocketManager) -> None:
        super().__init__(namespace)
        self.manager = manager

    @handles(Add)
    def add(self, client: Any, command: Add) -> dict[str, Any]:
        if not command.text:
            raise errors.Conflict("There is nothing to do", listed=0)
        self.manager.publish(client.principal.tenant, "/todo", "added", {"text": command.text})
        return {"text": command.text, "pid": os.getpid()}


class EchoNamespace(socketio.Namespace):
    """/echo: python-socketio's own semantics."""

    def on_echo(self, sid: str, *arguments: Any) -> Any:
        self.emit("echoed", arguments, to=sid)
        return arguments

    def on_sleep(self, sid: str, seconds: float) -> None:
        time.sleep(seconds)

    def on_leave(self, sid: str) -> None:
        self.disconnect(sid)


def create_app(greeting: str = "hello") -> Flask:
    """Return the application."""
    app = Flask(__name__)
    manager = SocketManager(app)
    manager.register_namespace(TodoNamespace("/todo", manager))
    manager.register_namespace(EchoNamespace("/echo"), authenticate=False)

    @app.get("/greeting")
    def greet() -> dict[str, Any]:
        return {"greeting": os.environ.get("GREETING", greeting), "pid": os.getpid()}

    @app.post("/done")
    def done() -> dict[str, Any]:
        manager.publish("acme", "/todo", "done", request.get_json())
        print("done was called", flush=True)
        return {}

    return app


def create_slowly() -> Flask:
    """Return the application after a while."""
    time.sleep(60)
    return create_app()


def create_elsewhere() -> Flask:
    """Return an application that takes its Redis from its own configuration."""
    app = Flask(__name__)
    SocketManager(app, Settings.from_env({**os.environ, "REDIS_URL": os.environ["ELSEWHERE"]}))
    return app


def create_broken() -> Flask:
    """Raise what an application raises that lacks something."""
    raise LookupError("DATABASE_URL is not set:\n it is needed")


app = create_app()
realtime: SocketManager = app.extensions["mintflow"]
application = realtime.wsgi_app
without_realtime = Flask("bare")
