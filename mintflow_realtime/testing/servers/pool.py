"""Servers that outlive one test: each application starts once, and every test finds it as if it had just started."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from mintflow_realtime.testing.servers.server import RealtimeServer

# Applications, or settings of one, that run at the same time; the one that was used longest ago makes room.
MAX_SERVERS = 3


class ServerPool:
    """At most three running servers; a test has one at a time to itself."""

    def __init__(self) -> None:
        self._idle: list[tuple[tuple[str, str], RealtimeServer]] = []
        self._keys: dict[int, tuple[str, str]] = {}

    def take(self, application: object, options: Mapping[str, Any]) -> RealtimeServer:
        """Return a running server of `application` that remembers nothing. Raises as `RealtimeServer.start`."""
        server = RealtimeServer(application, **options)
        key = (server.application, repr(sorted(options.items())))
        for place, (known, idle) in enumerate(self._idle):
            if known == key:
                del self._idle[place]
                server = idle
                break
        else:
            while len(self._idle) >= MAX_SERVERS:
                self._idle.pop(0)[1].stop()
            server.start()
        self._keys[id(server)] = key
        server.log_mark = len(server.log)
        return server

    def give_back(self, server: RealtimeServer) -> None:
        """Take a server back from its test; one that the test has broken is stopped, and started again when needed."""
        key = self._keys.pop(id(server))
        try:
            server.reset()
        except Exception:
            # What its test has done to it is not to fail the next one.
            server.stop()
        else:
            self._idle.append((key, server))

    def __enter__(self) -> "ServerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._idle:
            self._idle.pop()[1].stop()
