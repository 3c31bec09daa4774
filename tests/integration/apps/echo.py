"""A stock namespace that answers what it is told: the same on our server and on the library's own."""

import time
from typing import Any

import socketio

_wall_clock = time.time


class Echo(socketio.Namespace):  # type: ignore[misc]
    def on_echo(self, sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    def on_message(self, sid: str, *args: Any) -> None:
        self.emit("message-back", args, to=sid)

    def on_ask_me(self, sid: str, *args: Any) -> Any:
        try:
            # A tuple, or the library would take None for no arguments.
            return (self.call("question", args, to=sid, timeout=5),)
        except socketio.exceptions.TimeoutError:
            return "no answer"

    def on_kick_me(self, sid: str) -> None:
        self.disconnect(sid)

    def on_cut_me(self, sid: str) -> None:
        self.server.eio.disconnect(self.server.manager.eio_sid_from_sid(sid, self.namespace))

    def on_room(self, sid: str, room: str) -> None:
        self.enter_room(sid, room)

    def on_room_bytes(self, sid: str, room: str, size: int, count: int) -> None:
        for _ in range(count):
            self.emit("bytes", "x" * size, room=room)

    def on_jump(self, sid: str, seconds: float) -> None:
        """Let the wall clock of this process jump, as NTP or an administrator does."""
        time.time = lambda: _wall_clock() + seconds


class Leaving(Echo):
    """Takes its time to let a client go."""

    def on_disconnect(self, sid: str, reason: str) -> None:
        time.sleep(1)
