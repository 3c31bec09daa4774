"""The node's subscriber: one greenlet owns the subscribed connection, reads it, reconnects it and writes to it.

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

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.protocol.rare_log import RareLog

# The health probe comes every 2 s, so a connection that has been silent for this long is deaf.
SILENCE_SECONDS = 5.0
# Deaf time after an outage is at most this long.
LONGEST_PAUSE = 1.0
_CHUNK = 65536
# Redis reads a command of this many channels in well under a millisecond.
_AT_ONCE = 512
# So many messages are sent to clients in one piece at most, if so many were read at once: the first waits for the last.
_MOST_CORKED = 64
NO_CORK = nullcontext()

_log = logging.getLogger("mintflow.subscriber")


class Subscriber(Protocol):
    """What receives a node's channels, on however many connections."""

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        ...

    def stop(self) -> None:
        """Stop listening."""
        ...

    def subscribe(self, channel: str) -> None:
        """Subscribe to a channel until `leave`."""
        ...

    def subscribe_if_allowed(self, channel: str) -> None:
        """Subscribe to a channel that Redis may refuse."""
        ...

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        ...


class RedisSubscriber:
    """Reads channels. `on_message(channel, message)` and `on_subscribed(channel)` must not block."""

    def __init__(
        self,
        client: "redis.Redis",
        on_message: Callable[[str, bytes], None],
        on_subscribed: Callable[[str], None],
        cork: AbstractContextManager[None] = NO_CORK,
    ) -> None:
        """Listen by `client`. What was read at once is handed on within `cork`, a part at a time."""
        self._client = client
        # One for all reconnections: the pool counts what it makes and never forgets, so that after max_connections
        # tries, some minutes without Redis, it would make no more and the node stayed deaf.
        self._connection: Any = client.connection_pool.make_connection()
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._cork = cork
        self._wanted: set[str] = set()
        self._left: set[str] = set()
        self._optional: list[str] = []
        # How many of these were asked for on this connection, and are not answered yet.
        self._unanswered = 0
        self._subscribed: set[str] = set()
        self._changed = True
        self._paused = False
        self._began = 0.0
        self._rare = RareLog(_log)
        self._owner: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        if self._owner is None:
            self._owner = start_loop("the subscriber", self._connect, self._pause_between)

    def stop(self) -> None:
        """Stop listening and close the connection."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.kill()

    def subscribe(self, channel: str) -> None:
        """Subscribe to a channel, and again after each reconnection, until `leave`."""
        self._wanted.add(channel)
        self._change()

    def subscribe_if_allowed(self, channel: str) -> None:
        """Subscribe to a channel, if the user may; else do without it."""
        self._optional.append(channel)
        self._change()

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(channel)
        self._left.add(channel)
        self._change()

    def _connect(self) -> None:
        self._began = time.monotonic()
        try:
            self._connect_and_read()
        except (redis.RedisError, hiredis.HiredisError, OSError) as error:
            self._rare.warning(f"lost the subscribed connection: {error}")

    def _pause_between(self) -> None:
        # A connection that lasted is tried again at once; one that didn't, after up to a second, jittered, so that the
        # nodes of a fleet don't come back in step.
        if time.monotonic() - self._began < LONGEST_PAUSE:
            gevent.sleep(random.uniform(0.2, LONGEST_PAUSE))

    def _connect_and_read(self) -> None:
        connection = self._connection
        loop = gevent.get_hub().loop
        try:
            connection.connect()
            socket = connection._sock
            socket.settimeout(0)
            self._subscribed, self._changed, self._unanswered = set(), True, 0
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
        last_received = time.monotonic()
        while True:
            if self._changed:
                self._changed = False
                self._send_changes(connection, socket)
            try:
                chunk = socket.recv(_CHUNK)
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                if time.monotonic() - last_received > SILENCE_SECONDS:
                    raise redis.ConnectionError(f"heard nothing for {SILENCE_SECONDS:.0f} s") from None
                self._pause()
                continue
            if not chunk:
                raise redis.ConnectionError("closed by Redis")
            last_received = time.monotonic()
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

    def _send_changes(self, connection: Any, socket: Any) -> None:
        # A channel that was left and is wanted again is subscribed anew: someone waits for its confirmation.
        left, self._left = self._subscribed & self._left, set()
        self._subscribed -= left
        new = self._wanted - self._subscribed
        optional = [(channel,) for channel in self._optional if channel not in self._subscribed]
        self._subscribed.update(new, self._optional)
        # First, so that an error can only be about one of them.
        self._unanswered += len(optional)
        for one in optional:
            self._send(connection, socket, "SUBSCRIBE", one)
        for verb, channels in (("UNSUBSCRIBE", left), ("SUBSCRIBE", new)):
            for group in _groups(sorted(channels)):
                self._send(connection, socket, verb, group)

    def _send(self, connection: Any, socket: Any, verb: str, channels: Iterable[str]) -> None:
        socket.settimeout(1.0)
        for packed in connection.pack_command(verb, *channels):
            socket.sendall(packed)
        socket.settimeout(0)

    def _take_all(self, reader: Any) -> None:
        reply = reader.gets()
        while reply is not False:
            following = reader.gets()
            if following is False:
                self._take(reply)
                return
            with self._cork:
                self._take(reply)
                self._take(following)
                for _ in range(_MOST_CORKED - 2):
                    reply = reader.gets()
                    if reply is False:
                        return
                    self._take(reply)
            reply = reader.gets()

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.HiredisError):
            if self._unanswered and str(reply).startswith("NOPERM"):
                self._unanswered -= 1
                return
            raise redis.ConnectionError(str(reply))
        kind, channel, payload = reply[0], reply[1], reply[2]
        try:
            if kind == b"message":
                self._on_message(channel.decode(), payload)
            elif kind == b"subscribe" and channel.decode() in self._optional:
                self._unanswered -= 1
            elif kind == b"subscribe" and channel.decode() in self._wanted:
                self._on_subscribed(channel.decode())
        except Exception:
            # One message that can't be delivered must not cost the others their subscription.
            _log.exception("a message was not delivered")


def _groups(channels: list[str]) -> Iterable[list[str]]:
    return (channels[i : i + _AT_ONCE] for i in range(0, len(channels), _AT_ONCE))
