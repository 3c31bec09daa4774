"""The server of a checkout, which also tells how long its event loop was held: `/held` says it, and begins anew."""

import time
from typing import Any

import gevent
import socketio
from flask import Flask, jsonify

from mintflow_realtime.app.socket_manager import SocketManager


class LoopWatch:
    """The longest turn of this thread's event loop, in milliseconds of its own CPU time."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._watcher = gevent.get_hub().loop.prepare()
        self._watcher.start(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, (now - self._last) * 1000)
        self._last = now

    def take(self) -> float:
        """Return the longest turn since the last time."""
        longest, self.longest = self.longest, 0.0
        return longest


class Stock(socketio.Namespace):  # type: ignore[misc]
    """A namespace of the library's kind."""

    def on_take(self, sid: str, value: Any) -> str:
        return type(value).__name__


app = Flask("abuse")
realtime = SocketManager(app)
realtime.register_namespace(Stock("/stock"), authenticate=False)
watches: list[LoopWatch] = []


@app.get("/held")
def held() -> Any:
    """Answer with the longest turn since the last request, in milliseconds."""
    if not watches:
        watches.append(LoopWatch())
    return jsonify(watches[0].take())


@app.get("/cpu")
def cpu() -> Any:
    """Answer with the seconds of CPU time that the worker has taken."""
    return jsonify(time.process_time())


application = realtime.wsgi_app
