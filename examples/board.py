"""A namespace of one's own, beside a Flask app's routes: notes on a board that all of a tenant see at once.

Serve it with `gunicorn -c gunicorn.conf.py examples.board:application`.
"""

import secrets
from typing import Annotated, Literal

import msgspec
import socketio
from flask import Flask, Response, jsonify, request
from msgspec import Meta

from mintflow_realtime.admission.clients import Client
from mintflow_realtime.app.socket_manager import SocketManager
from mintflow_realtime.fanout.rooms import tenant_room
from mintflow_realtime.namespaces.base import Namespace, handles
from mintflow_realtime.protocol.ids import Id

app = Flask(__name__)
realtime = SocketManager(app)
application = realtime.wsgi_app


class AddNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`add_note`: what a client sends."""

    text: Annotated[str, Meta(min_length=1, max_length=500)]
    color: Literal["yellow", "green", "pink"] = "yellow"


class Note(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to `add_note`, and the event `note_added`."""

    note_id: Id
    text: str
    color: str
    added_by: str


class BoardNamespace(Namespace):
    @handles(AddNote)
    def add_note(self, client: Client, command: AddNote) -> Note:
        note = Note(secrets.token_hex(8), command.text, command.color, client.principal.user_id)
        realtime.publish(client.principal.tenant, "/board", "note_added", note)
        return note


realtime.register_namespace(BoardNamespace("/board"))


@app.post("/notices")
def notice() -> Response:
    """Put a note on the board of `default`, the tenant that needs no token. Any other view asks who is calling."""
    note = Note(secrets.token_hex(8), request.get_json()["text"], "green", "notices")
    return jsonify(offset=realtime.publish("default", "/board", "note_added", note).offset)


class CheerNamespace(socketio.Namespace):  # type: ignore[misc]
    """A stock namespace: python-socketio's own handlers and acks, for what may be missed."""

    def on_cheer(self, sid: str, name: str) -> str:
        who = realtime.principal(sid, "/cheer")
        self.emit("cheered", {"by": who.user_id, "name": name}, room=tenant_room(who.tenant))
        return f"hooray for {name}"


realtime.register_namespace(CheerNamespace("/cheer"))
