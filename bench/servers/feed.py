"""The namespaces of the fan-out bench: clients of /feed hear what /control is told to publish, on whichever node."""

import time
from collections.abc import Callable
from typing import Any

import gevent
import socketio

Publish = Callable[[dict[str, Any]], object]
"""Sends an event with a payload to everybody on /feed, on all nodes."""


class ControlNamespace(socketio.Namespace):  # type: ignore[misc]
    """Publishes from within the process, as views do: each in a greenlet of its own, so that one may pass another."""

    def __init__(self, publish: Publish) -> None:
        super().__init__("/control")
        self._publish = publish
        self._published = 0

    def on_publish(self, sid: str, count: int, rate: float, size: int) -> None:
        data, publishing = "x" * size, []
        began = time.monotonic()
        for place in range(count):
            wait = began + place / rate - time.monotonic()
            if wait > 0:
                gevent.sleep(wait)
            payload = {"at": time.monotonic() * 1000, "number": self._published, "data": data}
            self._published += 1
            publishing.append(gevent.spawn(self._publish, payload))
        gevent.joinall(publishing, raise_error=True)
