"""Socket.IO servers without a transport: what they send is written down instead. Ours, and the library's own."""

import json
from collections.abc import Iterable
from typing import Any

import socketio

from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.fanout.deliver.membership import Membership
from mintflow_realtime.protocol import wire_json
from mintflow_realtime.protocol.envelope import Announcement, Header, parse_offset
from mintflow_realtime.protocol.scripts import Runner
from mintflow_realtime.transport.engine_io.message import Message
from mintflow_realtime.transport.socket_io.server import SocketServer


class Hall:
    """A server with its manager, and what was sent to each connection: `sent[eio_sid]`, whole packets' texts."""

    def __init__(self, server: Any, manager: Any) -> None:
        self.server, self.manager = server, manager
        self.sent: dict[str, list[Any]] = {}
        if isinstance(server, SocketServer):
            server.post = self._record_message  # type: ignore[method-assign]
            server.eio.broadcast = self._record_broadcast  # type: ignore[method-assign]
        else:
            server.eio.send = self._record
            server.eio.send_packet = lambda eio_sid, packet: self._record(eio_sid, packet.data)
        manager.set_server(server)

    def _record_message(self, eio_sid: str, message: Message) -> None:
        # Without the 4 with which Engine.IO says that it is a message.
        for part in (message.text[1:], *message.attachments):
            if part:
                self._record(eio_sid, part)

    def _record_broadcast(self, eio_sids: Iterable[str], message: Message) -> None:
        for eio_sid in eio_sids:
            self._record_message(eio_sid, message)

    def _record(self, eio_sid: str, part: str | bytes) -> None:
        self.sent.setdefault(eio_sid, []).append(part)

    def connect(self, eio_sid: str, namespace: str, *rooms: str) -> str:
        """Put a connection into a namespace and rooms; return its sid."""
        sid = self.manager.pre_connect(eio_sid, namespace)
        assert sid is not None
        self.manager.connect(sid, namespace)
        for room in rooms:
            self.manager.basic_enter_room(sid, namespace, room)
        return str(sid)

    def heard(self, eio_sid: str) -> list[tuple[str, Any]]:
        """Return (event, payload) of what was sent to a connection, in any namespace."""
        found = []
        for text in self.sent.get(eio_sid, ()):
            name, *payload = json.loads(text[text.index("[") :])
            found.append((name, payload[0] if payload else None))
        return found


def ours(runner: Runner, *tenant_only: str, channel: str = "socketio") -> Hall:
    manager = Manager(runner, tenant_only, channel)
    server = SocketServer(client_manager=manager, json=wire_json)
    return Hall(server, manager)


def stock(manager: Any = None) -> Hall:
    manager = manager or socketio.Manager()
    return Hall(socketio.Server(async_mode="threading", client_manager=manager), manager)


class OurMembership(Membership, socketio.Manager):  # type: ignore[misc]
    """Our tables under the library's manager of one process."""


def membership() -> Hall:
    manager = OurMembership()
    return Hall(SocketServer(client_manager=manager, json=wire_json), manager)


def event(
    offset: str, name: str, rooms: Iterable[str] = ("acme:",), *, except_sid: str = "", payload: Any = None
) -> Announcement:
    """Return what a node hears of a publish."""
    header = Header(tuple(rooms), except_sid=except_sid)
    return Announcement(parse_offset(offset), header, json.dumps([name, payload]))
