"""Routes by which a test looks into one worker: table sizes, greenlets, descriptors. Only for tests' applications."""

import gc
import os
import traceback
from typing import Any

import greenlet
from flask import Blueprint, jsonify

from mintflow_realtime.app.socket_manager import SocketManager


def blueprint(realtime: SocketManager) -> Blueprint:
    """Return `/_counts` of the worker that answers."""
    pages = Blueprint("measures", __name__)

    @pages.get("/_counts")
    def counts() -> Any:
        return jsonify(read(realtime))

    return pages


def read(realtime: SocketManager) -> dict[str, Any]:
    """Return what must be as before once every client has gone, and what says why not."""
    node = realtime._node
    manager, sockets, clients = node.manager, node.sockets, node.gate.clients
    gc.collect()
    # The pool keeps as many connections as were once needed at a time.
    pooled = sum(one._sock is not None for one in node.redis._redis.connection_pool._available_connections)
    return {
        "pid": os.getpid(),
        "tag": node.tag,
        "leftovers": {
            "rooms": sum(len(table) for table in manager.rooms.values()),
            "rooms_of": len(manager._rooms_of),
            "connecting": len(manager._connecting),
            "leaving": len(manager._leaving),
            "callbacks": len(manager.callbacks),
            "ack_deadlines": len(manager._ack_deadlines),
            "holds": len(manager._held),
            "recovering": len(manager.sessions()),
            "unsaved": len(manager.unsaved),
            "early": len(manager._early),
            "clients": len(clients),
            "tenants": len(clients._by_tenant),
            "connections": len(clients._by_connection),
            "sessions": len(sockets.eio.sockets),
            "environ": len(sockets.environ),
            "inboxes": len(sockets._inboxes),
            "running": len(sockets._running),
            "binary": len(sockets._binary_packet),
            "followers": len(node.followers),
            "streams": len(sockets.eio.streams),
            "held_channels": sum(place.clients for place in node.channels._channels.values()),
            "held_controls": sum(place.clients for place in node.channels._controls.values()),
        },
        "greenlets": len(greenlets := alive()),
        "standing": [stand(one) for one in greenlets],
        "descriptors": len(os.listdir("/proc/self/fd")) - pooled,
        "heard": node.channels.received,
        "dropped": realtime.dropped,
    }


def alive() -> list[greenlet.greenlet]:
    """Return this thread's greenlets that have begun and not ended; gevent's threads for DNS end when they are idle."""
    here = greenlet.getcurrent()
    while here.parent is not None:
        here = here.parent
    found = [one for one in gc.get_objects() if isinstance(one, greenlet.greenlet) and one]
    return [one for one in found if root(one) is here]


def root(one: greenlet.greenlet) -> greenlet.greenlet:
    """Return the main greenlet of a greenlet's thread."""
    while one.parent is not None:
        one = one.parent
    return one


def stand(one: greenlet.greenlet) -> str:
    """Return where a greenlet waits, innermost last."""
    frames = traceback.extract_stack(one.gr_frame) if one.gr_frame is not None else []
    return " > ".join(f"{os.path.basename(frame.filename)}:{frame.name}" for frame in frames[-6:])
