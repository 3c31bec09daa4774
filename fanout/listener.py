"""The node's ear: one greenlet owns the subscribed connection, reads it, reconnects it and writes to it.

Others only say which channels they want. A `PubSub` shared by two greenlets mixes up replies and keeps stale
subscriptions once its connection breaks.
"""

import logging
import random
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import gevent
import hiredis
import redis

# A canary comes every 2 s, so a connection that has been silent for this long is deaf.
SILENCE_SECONDS = 5.0
# Deaf time after an outage is at most this long.
LONGEST_PAUSE = 1.0
_CHUNK = 65536
# Redis reads a command of this many channels in well under a millisecond.
_AT_ONCE = 512
# So many messages are sent to clients in one piece at most, if so many were read at once: the first waits for the last.
_TOGETHER = 64
NOT_TOGETHER = nullcontext()

_log = logging.getLogger("mintflow.listener")


class Ear(Protocol):
    """What hears channels for a node, on however many connections."""

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        ...

    def stop(self) -> None:
        """Stop listening."""
        ...

    def want(self, channel: str) -> None:
        """Subscribe to a channel until `leave`."""
        ...

    def leave(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        ...


class Listener:
    """Hears channels. `heard(channel, message)` and `confirmed(channel)` run in the owner and must not block."""

    def __init__(
        self,
        client: "redis.Redis",
        heard: Callable[[str, bytes], None],
        confirmed: Callable[[str], None],
        together: AbstractContextManager[None] = NOT_TOGETHER,
    ) -> None:
        """Listen by `client`. What was read at once is handed on within `together`, a part at a time."""
        self._client = client
        # One for all reconnections: the pool counts what it makes and never forgets, so that after max_connections
        # tries, some minutes without Redis, it would make no more and the node stayed deaf.
        self._connection: Any = client.connection_pool.make_connection()
        self._heard = heard
        self._confirmed = confirmed
        self._together = together
        self._wanted: set[str] = set()
        self._left: set[str] = set()
        self._asked: set[str] = set()
        self._changed = True
        self._paused = False
        self._owner: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        if self._owner is None:
            self._owner = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop listening and close the connection."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.kill()

    def want(self, channel: str) -> None:
        """Subscribe to a channel, and again after each reconnection, until `leave`."""
        self._wanted.add(channel)
        self._change()

    def leave(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(channel)
        self._left.add(channel)
        self._change()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._listen()
            except (redis.RedisError, hiredis.HiredisError, OSError) as error:
                _log.warning("lost the subscribed connection: %s", error)
            # A connection that lasted is tried again at once; one that didn't, after up to a second, jittered, so
            # that the nodes of a fleet don't come back in step.
            if time.monotonic() - began < LONGEST_PAUSE:
                gevent.sleep(random.uniform(0.2, LONGEST_PAUSE))

    def _listen(self) -> None:
        connection = self._connection
        loop = gevent.get_hub().loop
        try:
            connection.connect()
            socket = connection._sock
            socket.settimeout(0)
            self._asked, self._changed = set(), True
            watcher, timer = loop.io(socket.fileno(), 1), loop.timer(1.0, repeat=1.0)
            watcher.start(self._resume)
            timer.start(self._resume)
            try:
                self._read(connection, socket)
            finally:
                for one in (watcher, timer):
                    one.stop()
                    one.close()
        finally:
            connection.disconnect()

    def _read(self, connection: Any, socket: Any) -> None:
        reader = hiredis.Reader()
        last_heard = time.monotonic()
        while True:
            if self._changed:
                self._changed = False
                self._ask(connection, socket)
            try:
                chunk = socket.recv(_CHUNK)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                if time.monotonic() - last_heard > SILENCE_SECONDS:
                    raise redis.ConnectionError(f"heard nothing for {SILENCE_SECONDS:.0f} s") from None
                self._pause()
                continue
            if not chunk:
                raise redis.ConnectionError("closed by Redis")
            last_heard = time.monotonic()
            reader.feed(chunk)
            self._take_all(reader)
            if len(chunk) > _CHUNK // 2 or isinstance(socket, ssl.SSLSocket):
                # More may be waiting, also inside TLS, where no watcher would see it; but others get a turn.
                gevent.sleep(0)
            else:
                self._pause()

    # An event costs some 50 µs by `gevent.event.Event` with a timeout, a second `recv` and a `sleep(0)`; so the
    # watcher switches straight to the owner, as gevent's own sockets do, and is kept.

    def _pause(self) -> None:
        if not self._changed:
            self._paused = True
            try:
                gevent.get_hub().switch()
            finally:
                self._paused = False

    def _resume(self) -> None:
        """Let the owner go on, if it pauses; called by the event loop alone."""
        if self._paused and self._owner is not None:
            self._owner.switch()

    def _change(self) -> None:
        self._changed = True
        gevent.get_hub().loop.run_callback(self._resume)

    def _ask(self, connection: Any, socket: Any) -> None:
        # A channel that was left and is wanted again is subscribed anew: someone waits for its confirmation.
        left, self._left = self._asked & self._left, set()
        self._asked -= left
        new = self._wanted - self._asked
        self._asked |= new
        for verb, channels in (("UNSUBSCRIBE", left), ("SUBSCRIBE", new)):
            for group in _groups(sorted(channels)):
                socket.settimeout(1.0)
                for packed in connection.pack_command(verb, *group):
                    socket.sendall(packed)
                socket.settimeout(0)

    def _take_all(self, reader: Any) -> None:
        reply = reader.gets()
        while reply is not False:
            following = reader.gets()
            if following is False:
                self._take(reply)
                return
            with self._together:
                self._take(reply)
                self._take(following)
                for _ in range(_TOGETHER - 2):
                    reply = reader.gets()
                    if reply is False:
                        return
                    self._take(reply)
            reply = reader.gets()

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.HiredisError):
            raise redis.ConnectionError(str(reply))
        kind, channel, payload = reply[0], reply[1], reply[2]
        try:
            if kind == b"message":
                self._heard(channel.decode(), payload)
            elif kind == b"subscribe" and channel.decode() in self._wanted:
                self._confirmed(channel.decode())
        except Exception:
            # One message that can't be delivered must not cost the others their subscription.
            _log.exception("a message was not delivered")


def _groups(channels: list[str]) -> Iterable[list[str]]:
    return (channels[i : i + _AT_ONCE] for i in range(0, len(channels), _AT_ONCE))
