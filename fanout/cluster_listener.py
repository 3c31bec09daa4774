"""The node's ear in a Redis Cluster: one subscribed connection to each master that owns what is wanted.

Any node of a cluster passes on what is published at another, but a message that is lost between the two is missed in
silence. From the owner itself it is missed only with the connection, and then the log is read.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import gevent
import redis

from fanout.listener import NOT_TOGETHER, Listener

Address = tuple[str, int]

# How soon a channel follows its slot to another master; until then what is published there still comes, by way of the
# cluster, if the old one lives.
FOLLOW_SECONDS = 1.0

_log = logging.getLogger("mintflow.listener")


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


class ClusterListener:
    """Hears channels like `Listener`, each from the master that owns its slot.

    What belongs to no tenant, the node's canary, is subscribed on all connections: only a deaf one is silent.
    """

    def __init__(
        self,
        shards: Shards,
        heard: Callable[[str, bytes], None],
        confirmed: Callable[[str], None],
        together: AbstractContextManager[None] = NOT_TOGETHER,
    ) -> None:
        self._shards = shards
        self._together = together
        self._heard, self._confirmed = heard, confirmed
        self._wanted: set[str] = set()
        self._owners: dict[str, Address] = {}
        self._ears: dict[Address, Listener] = {}
        self._follower: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Begin to listen, if this node doesn't yet."""
        if self._follower is None:
            self._follower = gevent.spawn(self._follow)

    def stop(self) -> None:
        """Stop listening and close all connections."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.kill()
        self._owners = {}
        self._stop_idle()

    def want(self, channel: str) -> None:
        """Subscribe to a channel, wherever its slot goes, until `leave`."""
        self._wanted.add(channel)
        if self._follower is not None:
            self._settle(channel)

    def leave(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._wanted.discard(channel)
        if self._owners.pop(channel, None) is not None:
            for ear in self._ears.values():
                ear.leave(channel)

    def _follow(self) -> None:
        while True:
            try:
                self._shards.refresh()
                for channel in list(self._wanted):
                    self._settle(channel)
                self._stop_idle()
            except Exception:
                _log.exception("could not follow the cluster")
            gevent.sleep(FOLLOW_SECONDS)

    def _settle(self, channel: str) -> None:
        owner, before = self._shards.owner(channel), self._owners.get(channel)
        if owner is None or owner == before:
            return
        if before is not None and not _is_shared(channel):
            self._ears[before].leave(channel)
        # From here on what comes from the old owner is not heard; what is missed by it is in the log, which is read
        # when the new owner has confirmed.
        self._owners[channel] = owner
        ear = self._ears.get(owner)
        if ear is None:
            ear = self._ears[owner] = self._ear_at(owner)
            for shared in filter(_is_shared, self._wanted):
                ear.want(shared)
        ear.want(channel)

    def _ear_at(self, address: Address) -> Listener:
        def heard(channel: str, message: bytes) -> None:
            if self._owners.get(channel) == address:
                self._heard(channel, message)

        def confirmed(channel: str) -> None:
            if self._owners.get(channel) == address:
                self._confirmed(channel)

        ear = Listener(self._shards.connect(address), heard, confirmed, self._together)
        ear.start()
        return ear

    def _stop_idle(self) -> None:
        owners = set(self._owners.values())
        for address in [one for one in self._ears if one not in owners]:
            self._ears.pop(address).stop()


def _is_shared(channel: str) -> bool:
    return "{-}" in channel
