"""A connection to a Redis whose UNIX socket has a longer path than the system takes."""

import redis

from mintflow_realtime.unix_paths import short


class LongPathConnection(redis.UnixDomainSocketConnection):
    """redis-py's, which finds the socket by the descriptor of its directory."""

    def _connect(self):  # type: ignore[no-untyped-def]
        path = self.path
        with short(path) as self.path:
            try:
                return super()._connect()  # type: ignore[no-untyped-call]
            finally:
                self.path = path
