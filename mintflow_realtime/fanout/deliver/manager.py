"""The client manager: the library's `RedisManager`, whose emits reach all or raise, and our one local delivery."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import gevent
import socketio
from socketio.manager import Manager as LocalManager

from mintflow_realtime.fanout.deliver import foreign
from mintflow_realtime.fanout.deliver.membership import is_sid
from mintflow_realtime.fanout.deliver.positions import LOOK_EVENTS, Positions, marked
from mintflow_realtime.fanout.lives import LOST
from mintflow_realtime.fanout.rooms import of_tenant, tenant_room
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.metrics.series import DELIVERIES, RESYNCS
from mintflow_realtime.protocol.envelope import MAX_MESSAGE_BYTES, Announcement
from mintflow_realtime.protocol.errors import TooLarge
from mintflow_realtime.protocol.scripts import Runner
from mintflow_realtime.protocol.wire_json import dumps

# Events that a connect handler emits before the client is told that it is connected.
MAX_EARLY = 100

_log = logging.getLogger("mintflow.manager")


class Manager(foreign.Foreign, Positions, socketio.RedisManager):  # type: ignore[misc]
    """Keeps the clients of this node and sends to them.

    `tenant_only` are the namespaces whose rooms are all a tenant's: there an emit needs a tenant's room or a sid.
    An emit from this process raises ValueError without one and Unavailable where Redis doesn't answer; one from
    outside is dropped and counted in `dropped`.
    """

    name = "mintflow"

    def __init__(
        self, redis: Runner, tenant_only: Collection[str], channel: str = "socketio", prefix: str = ""
    ) -> None:
        super().__init__("redis://unused", channel=channel)
        self._runner = redis
        self._prefix = prefix
        self._tenant_only = frozenset(tenant_only)
        self._early: dict[str, list[Callable[[], None]]] = {}
        self.dropped: Counter[str] = Counter()

    def initialize(self) -> None:
        """Start nothing: `Channels` hears the library's channel too, on the node's one subscribed connection."""

    # What is published with a number

    def deliver(self, namespace: str, announcement: Announcement) -> None:
        """Send an event to this node's clients in any of its rooms, each once."""
        header = announcement.header
        table = self.rooms.get(namespace)
        recovering = self._recovering.get(namespace)
        if recovering and header.rooms and announcement.offset and announcement.offset.number % LOOK_EVENTS == 0:
            # Once this one is on its way.
            gevent.spawn(self.send_positions_to, namespace, header.rooms[0].partition(":")[0])
        found = [table[room] for room in header.rooms if room in table] if table else ()
        if not found:
            return
        clients: dict[str, str] = {}
        for members in found:
            # Also a copy: a client that is too slow is closed in the middle of this.
            clients.update(members)
        clients.pop(header.except_sid, None)
        DELIVERIES.add(namespace, by=len(clients))
        if recovering:
            self._deliver_marked(namespace, announcement, clients, recovering)
        elif self._held or self._told or self._connecting:
            message = self._message_of(namespace, announcement, announcement.arguments)
            self._deliver_carefully(namespace, announcement, clients, message)
        elif clients:
            message = self._message_of(namespace, announcement, announcement.arguments)
            self.server.post_to_all(clients.values(), message)

    def _message_of(self, namespace: str, announcement: Announcement, arguments: str) -> Any:
        offset, header = announcement.offset, announcement.header
        mark = "" if offset is None else announcement.mark
        return self._message(namespace, arguments, header.policy, header.key, mark)

    def _deliver_carefully(
        self, namespace: str, announcement: Announcement, clients: dict[str, str], message: Any
    ) -> None:
        """Send to clients of whom some may be held, told already, or not connected yet."""
        for sid, eio_sid in clients.items():
            if self.is_held(sid, namespace, announcement, message) or (namespace, sid) in self._connecting:
                continue
            self.server.post(eio_sid, message)

    def _deliver_marked(
        self, namespace: str, announcement: Announcement, clients: dict[str, str], recovering: dict[str, Session]
    ) -> None:
        """Send to clients of whom some recover: to these with the offset."""
        offset = announcement.offset
        back = recovering.keys() & clients.keys()
        if len(back) < len(clients):
            message = self._message_of(namespace, announcement, announcement.arguments)
            plain = {sid: eio_sid for sid, eio_sid in clients.items() if sid not in back} if back else clients
            self._deliver_carefully(namespace, announcement, plain, message)
        if not back:
            return
        number = announcement.after if offset is None else offset.number
        text = marked(announcement.arguments, announcement.mark or str(offset))
        message, now = self._message_of(namespace, announcement, text), time.monotonic()
        if self._held or self._told or self._connecting:
            back = {
                sid
                for sid in back
                if not self.is_held(sid, namespace, announcement, message) and (namespace, sid) not in self._connecting
            }
        for sid in back:
            session = recovering[sid]
            session.sent, session.sent_at = number, now
        self.server.post_to_all([clients[sid] for sid in back], message)

    def enter(self, sid: str, namespace: str, room: str) -> None:
        """Put a client of this node into a room. Raises ValueError where it is gone."""
        self.basic_enter_room(sid, namespace, room)

    def leave(self, sid: str, namespace: str, room: str) -> None:
        """Take a client of this node out of a room, if it is there."""
        self.basic_leave_room(sid, namespace, room)

    def tell_lost(self, tenant: str, namespace: str, reason: str) -> None:
        """Tell a tenant's clients here that continuity ended: they must fetch state anew."""
        if self.lives is not None:
            self.lives.note(LOST, tenant, namespace, reason)
        for sid in list(self.recipients(namespace, tenant_room(tenant))):
            self.forget_history(sid, namespace)
            session = self.session(sid, namespace)
            if session is not None:
                # Redis may have lost it too, and its client should be known when it comes back.
                session.stale = True
                self.unsaved.add(session)
            RESYNCS.add(reason)
            self.send_to(sid, namespace, "resync", {"reason": reason})

    def tell_dropped(self, eio_sid: str, dropped: Counter[str]) -> None:
        """Tell a slow client how many events it has missed, by the event that the key of their header names."""
        for place, count in dropped.items():
            namespace, _, event = place.partition(" ")
            sid = self.sid_from_eio_sid(eio_sid, namespace)
            if sid is not None and event:
                self.send_to(sid, namespace, event, {"count": count})

    # What the library emits

    def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Emit as the library does, volatile: to one client of this node directly, else through Redis to every node.

        Raises ValueError without a tenant's room on a tenant-only namespace, TooLarge for what nodes would not take,
        Unavailable where Redis doesn't answer.
        """
        namespace, room = namespace or "/", to or room
        if not self._addressed(namespace, room):
            raise ValueError(f"An emit on {namespace} needs a tenant's room or a sid, not {room!r}")
        here = partial(self._emit_here, event, data, namespace, room, skip_sid, callback)
        if isinstance(room, str) and (namespace, room) in self._connecting:
            self._keep_early(room, here)
            return
        if kwargs.get("ignore_queue") or (isinstance(room, str) and (namespace, room) in self._rooms_of):
            here()
            return
        super().emit(event, data, namespace=namespace, room=room, skip_sid=skip_sid, callback=callback, **kwargs)

    def _handle_emit(self, message: dict[str, Any], *, heard: bool = False) -> None:
        # The library sends to local clients first and to Redis then. Ours are served when the message comes back:
        # so all get it or nobody does, and in one order.
        if heard:
            if message.get("callback") is not None:
                super()._handle_emit(message)
            else:
                room, skip = message["room"], message.get("skip_sid")
                self._emit_here(message["event"], foreign.data_of(message), message["namespace"], room, skip)
            self._keep_for_connecting(message)

    def _emit_here(
        self, event: str, data: Any, namespace: str, room: Any, skip_sid: Any = None, callback: Any = None
    ) -> None:
        """Emit to clients of this node; those that recover get an offset as the last argument."""
        if callback is not None:
            LocalManager.emit(self, event, data, namespace, room, skip_sid, callback)
            return
        clients = self.recipients(namespace, room)
        for sid in skip_sid if isinstance(skip_sid, (list, tuple)) else (skip_sid,):
            clients.pop(sid, None)
        if self._connecting:
            clients = {sid: eio_sid for sid, eio_sid in clients.items() if (namespace, sid) not in self._connecting}
        arguments = data if isinstance(data, tuple) else () if data is None else (data,)
        for sid in self._recovering.get(namespace, {}).keys() & clients.keys():
            own = self.server.event_message(namespace, [event, *arguments, self.offset_of(sid, namespace)])
            self.server.post(clients.pop(sid), own)
        if clients:
            self.server.post_to_all(clients.values(), self.server.event_message(namespace, [event, *arguments]))

    def _keep_for_connecting(self, message: dict[str, Any]) -> None:
        """Keep an emit for clients whose connect handler has let them into its room, until they are admitted."""
        rooms = message["room"] if isinstance(message["room"], list) else [message["room"]]
        for namespace, sid in self._connecting:
            if namespace == message["namespace"] and not self._rooms_of[namespace, sid].isdisjoint(rooms):
                own = {**message, "room": sid, "callback": None}
                self._keep_early(sid, partial(self._handle_emit, own, heard=True))

    def _keep_early(self, sid: str, emit: Callable[[], None]) -> None:
        early = self._early.setdefault(sid, [])
        if len(early) < MAX_EARLY:
            early.append(emit)

    def _publish(self, message: dict[str, Any]) -> None:
        # Others of the library pass over a field that they don't know.
        text = dumps({**message, "prefix": self._prefix}).encode("utf-8", "surrogatepass")
        if len(text) > MAX_MESSAGE_BYTES:
            raise TooLarge(f"An emit to other nodes is at most {MAX_MESSAGE_BYTES} bytes of JSON, not {len(text)}")
        self._runner.command("PUBLISH", self.channel, text)

    def _addressed(self, namespace: str, room: Any) -> bool:
        if namespace not in self._tenant_only:
            return True
        rooms = room if isinstance(room, (list, tuple)) else (room,)
        return bool(rooms) and all(is_sid(one) or of_tenant(one) for one in rooms)

    def connect(self, sid: str, namespace: str) -> str:
        """Count a client as connected, now that CONNECT is sent, and send what its connect handler emitted to it."""
        super().connect(sid, namespace)
        for emit in self._early.pop(sid, ()):
            emit()
        return sid

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        super().basic_disconnect(sid, namespace, **kwargs)
        self._early.pop(sid, None)
