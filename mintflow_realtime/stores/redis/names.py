"""Connections to a host by its name, where the name server may hang: half a second, then the address of before."""

import os
import socket
import threading
from contextlib import suppress
from typing import Any

from redis.connection import Connection, SSLConnection

# With connecting and reading, which have a time each, a call stays within the promised 2 s.
LOOKUP_SECONDS = 0.5
# Names that are remembered; a process knows one, or the nodes of a cluster.
MOST = 256

Info = tuple[Any, ...]

_known: dict[tuple[str, int], list[Info]] = {}
_under_way: dict[tuple[str, int], "_Lookup"] = {}


class _Lookup:
    """One question to the name server, for all who ask it meanwhile."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place
        self.began = False
        self.done = threading.Event()
        self.found: list[Info] = []
        self.error: OSError | None = None

    def run(self) -> None:
        self.began = True
        try:
            self.found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
            if len(_known) >= MOST:
                _known.clear()
            _known[self._place] = self.found
        except OSError as error:
            self.error = error
        finally:
            _under_way.pop(self._place, None)
            self.done.set()


def look_up(host: str, port: int) -> list[Info]:
    """Return the addresses of a host as `getaddrinfo` does, within half a second.

    Where the name server doesn't answer, or has no answer now, those of the last time. Raises OSError without any.
    """
    place = (host, port)
    lookup = _under_way.get(place)
    if lookup is None:
        lookup = _under_way[place] = _Lookup(place)
        threading.Thread(target=lookup.run, name="mintflow-name", daemon=True).start()
    if not lookup.done.wait(LOOKUP_SECONDS) and not lookup.began:
        lookup.run()  # threads don't run here, as in uWSGI without --enable-threads
    if lookup.found:
        return lookup.found
    if place in _known:
        return _known[place]
    raise lookup.error or TimeoutError(f"the name server did not answer for {host}")


class NamedConnection(Connection):
    """A connection that looks its host up by `look_up`."""

    def _connect(self) -> Any:
        if _is_address(self.host):
            return super()._connect()  # type: ignore[no-untyped-call]
        name, failed = self.host, OSError("the name has no address")
        for *_, address in look_up(name, self.port):
            self.host = address[0]
            try:
                return super()._connect()  # type: ignore[no-untyped-call]
            except OSError as error:
                failed = error
            finally:
                # What a certificate must be for, and what errors name.
                self.host = name
        raise failed


class NamedSSLConnection(SSLConnection, NamedConnection):
    """The same, with TLS."""


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            return bool(socket.inet_pton(family, host))
    return False


# Whoever asked is not in the child.
os.register_at_fork(after_in_child=_under_way.clear)
