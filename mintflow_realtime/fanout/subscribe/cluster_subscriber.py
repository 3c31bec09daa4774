"""The node's subscriber in a Redis Cluster: one subscribed connection to each master that owns what is wanted.

Any node of a cluster passes on what is published at another, but a message that is lost between the two is missed in
silence. From the owner itself it is missed only with the connection, and then the log is read.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import gevent
import redis

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.fanout.subscribe.subscriber import NO_CORK, RedisSubscriber

Address = tuple[str, int]

# How soon a channel follows its slot to another master; until then what is published there still comes, by way of the
# cluster, if the old one lives.
FOLLOW_SECONDS = 1.0


class Shards(Protocol):
    """Who owns which channel; the door to the cluster that the rest of the node uses."""

    def owner(self, key: str) -> Address | None:
        """Return the master that owns a channel's slot, as far as is known."""
        ...

    def refresh(self) -> None:
        """Ask the cluster anew."""
        ...

    def connect(self, address: Address, /) -> "redis.Redis":
        """Return a client of one node."""
        ...


class ClusterSubscriber:
    """Receives channels like `RedisSubscriber`, each from the master that owns its slot.

    What belongs to no tenant, the node's health probe, is subscribed on all connections: only a deaf one is silent.
    """

    def __init__(
        self,
        shards: Shards,
        on_message: Callable[[str, bytes], None],
        on_subscribed: Callable[[str], None],
        cork: AbstractContextManager[None] = NO_CORK,
    ) -> None:
        self._shards = shards
        self._cork = cork
        self._on_message, self._on_subscribed = on_message, on_subscribed
        self._wanted: set[str] = set()
        self._optional: list[str] = []
        self._owners: dict[str, Address] = {}
        self._subscribers: dict[Address, RedisSubscriber] = {}
        self._follower: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        if self._follower is None:
            self._follower = start_loop("following the cluster", self._follow, FOLLOW_SECONDS)

    def stop(self) -> None:
        """Stop listening and close all connections."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.kill()
        self._owners = {}
        self._stop_idle()

    def subscribe(self, channel: str) -> None:
        """Subscribe to a channel, wherever its slot goes, until `leave`."""
        self._wanted.add(channel)
        if self._follower is not None:
            self._follow_slot(channel)

    def subscribe_if_allowed(self, channel: str) -> None:
        """Subscribe to a channel, if the user may; else do without it."""
        self._optional.append(channel)
        self._wanted.add(channel)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(channel)
        if self._owners.pop(channel, None) is not None:
            for subscriber in self._subscribers.values():
                subscriber.unsubscribe(channel)

    def _follow(self) -> None:
        self._shards.refresh()
        for channel in list(self._wanted):
            self._follow_slot(channel)
        self._stop_idle()

    def _follow_slot(self, channel: str) -> None:
        owner, before = self._shards.owner(channel), self._owners.get(channel)
        if owner is None or owner == before:
            return
        if before is not None and not _is_shared(channel):
            self._subscribers[before].unsubscribe(channel)
        # From here on what comes from the old owner is not heard; what is missed by it is in the log, which is read
        # when the new owner has confirmed.
        self._owners[channel] = owner
        subscriber = self._subscribers.get(owner)
        if subscriber is None:
            subscriber = self._subscribers[owner] = self._subscriber_at(owner)
            for shared in filter(_is_shared, self._wanted):
                subscriber.subscribe(shared)
        if channel in self._optional:
            subscriber.subscribe_if_allowed(channel)
        else:
            subscriber.subscribe(channel)

    def _subscriber_at(self, address: Address) -> RedisSubscriber:
        def on_message(channel: str, message: bytes) -> None:
            if self._owners.get(channel) == address:
                self._on_message(channel, message)

        def on_subscribed(channel: str) -> None:
            if self._owners.get(channel) == address:
                self._on_subscribed(channel)

        subscriber = RedisSubscriber(self._shards.connect(address), on_message, on_subscribed, self._cork)
        subscriber.start()
        return subscriber

    def _stop_idle(self) -> None:
        owners = set(self._owners.values())
        for address in [one for one in self._subscribers if one not in owners]:
            self._subscribers.pop(address).stop()


def _is_shared(channel: str) -> bool:
    return "{-}" in channel
