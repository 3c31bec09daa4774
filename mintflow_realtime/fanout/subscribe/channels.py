"""The channels that this node holds clients of: opened with the first, left some time after the last."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import gevent
from gevent.event import Event

from mintflow_realtime.fanout.loops import start_loop
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.fanout.subscribe.channel import Channel, Control
from mintflow_realtime.fanout.subscribe.following import Following
from mintflow_realtime.fanout.subscribe.health_probe import HealthProbe
from mintflow_realtime.fanout.subscribe.subscriber import Subscriber
from mintflow_realtime.metrics.series import (
    EVENT_AGE,
    HEARD_EVENTS,
    IGNORED,
)
from mintflow_realtime.protocol.envelope import MAX_MESSAGE_BYTES, ORIGIN, Announcement, Offset, decode
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog
from mintflow_realtime.protocol.scripts import Keys, Runner

OPEN_SECONDS = 2.0
# A tenant whose last client reloads its page should not cost a subscription each time.
LINGER_SECONDS = 30.0
NOT_CONFIRMED = "A tenant's channel was not confirmed by Redis in time"

_rare = RareLog(logging.getLogger("mintflow.channels"))


class Channels:
    """Receives what this node's clients are entitled to and hands it on in number order.

    `deliver(namespace, announcement)` sends to local clients. `lost(tenant, namespace, reason)` tells them to fetch
    anew. `on_control(tenant)` is called when something was said to all of a tenant's nodes (a revocation), and when
    this node may have missed that. `outside(message)` takes the library's own channel. None of them may block. In the
    namespaces `volatile` much is said without a number, so that after a broken subscription something may be missing
    that the log doesn't tell of: their clients are told each time. `optional` channels may be forbidden.
    `heard(channel, offset)` is told of each numbered event before it is delivered.
    """

    def __init__(
        self,
        redis: Runner,
        keys: Keys,
        publisher: Publisher,
        listen: Callable[[Callable[[str, bytes], None], Callable[[str], None]], Subscriber],
        *,
        node: str,
        outside_channel: str,
        outside: Callable[[bytes], None],
        deliver: Callable[[str, Announcement], None],
        lost: Callable[[str, str, str], None],
        on_control: Callable[[str], None],
        on_node_message: Callable[[bytes], None] = lambda message: None,
        volatile: Collection[str] = (),
        optional: Mapping[str, Callable[[bytes], None]] = MappingProxyType({}),
        heard: Callable[[str, Offset], None] = lambda channel, offset: None,
    ) -> None:
        self._redis, self._keys, self._publisher = redis, keys, publisher
        self._subscriber = listen(self._on_message, self._on_subscribed)
        self._outside_channel, self._outside = outside_channel, outside
        self._on_control, self._on_node_message = on_control, on_node_message
        self._optional = {**optional}
        self._optional.pop(outside_channel, None)
        self._probe = HealthProbe(redis, keys.of_node(node))
        self._channels: dict[str, Channel] = {}
        self._controls: dict[str, Control] = {}
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._following = Following(
            publisher,
            holds=lambda channel: self._channels.get(channel.name) is channel,
            deliver=deliver,
            lost=lost,
            heard=heard,
            volatile=volatile,
        )
        # Messages of tenants' channels.
        self.received = 0
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to listen, with the health probe's channel and the library's."""
        self._subscriber.start()
        self._subscriber.subscribe(self._probe.channel)
        self._subscriber.subscribe(self._outside_channel)
        for channel in self._optional:
            self._subscriber.subscribe_if_allowed(channel)
        self._greenlets = [start_loop("the health probe", self._look_around, self._probe.wait)]

    def stop(self) -> None:
        """Stop listening."""
        gevent.killall(self._greenlets)
        self._following.stop()
        self._subscriber.stop()

    @property
    def probe_age(self) -> float:
        """How many seconds ago this node received its own probe."""
        return self._probe.age

    @property
    def receiving(self) -> bool:
        """Tell whether this node has received its own probe within 6 s."""
        return self._probe.receiving

    def wait_until_receiving(self, seconds: float) -> bool:
        """Wait at most `seconds` for this node to receive anything at all; return whether it did."""
        return self._probe.wait_until_received(seconds)

    def __len__(self) -> int:
        """How many channels of tenants' events this node holds."""
        return len(self._channels)

    def open(self, tenant: str, namespace: str) -> None:
        """Hold a channel for one more client; return once its subscription is confirmed and its head known.

        Raises Unavailable after 2 s.
        """
        name = self._publisher.channel(tenant, namespace)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(tenant, namespace=namespace, name=name)
            self._subscriber.subscribe(name)
        control_name = self._keys.of(tenant, "control")
        control = self._controls.get(control_name)
        if control is None:
            control = self._controls[control_name] = Control(tenant)
            self._subscriber.subscribe(control_name)
        channel.clients += 1
        control.clients += 1
        deadline = time.monotonic() + OPEN_SECONDS
        try:
            for ready in (control.ready, channel.ready):
                if not ready.wait(max(0.0, deadline - time.monotonic())):
                    raise Unavailable("This node can't hear the tenant's events at the moment", detail=NOT_CONFIRMED)
        except BaseException:
            self.close(tenant, namespace)
            raise

    def wait_until_passed(self, tenant: str, namespace: str, number: int) -> None:
        """Return once this node has delivered an open channel's events up to `number`. Raises Unavailable after 2 s."""
        channel = self._channels.get(self._publisher.channel(tenant, namespace))
        if channel is None or channel.number >= number:
            return
        passed = Event()
        channel.waiting.append((number, passed))
        try:
            if not passed.wait(OPEN_SECONDS):
                raise Unavailable("This node is behind with the tenant's events at the moment")
        finally:
            channel.waiting.remove((number, passed))

    def position(self, tenant: str, namespace: str) -> Offset:
        """Return how far this node has delivered an open channel; ORIGIN where nothing was ever published on it."""
        channel = self._channels.get(self._publisher.channel(tenant, namespace))
        return (channel.order.position if channel else None) or ORIGIN

    def breaks(self, tenant: str, namespace: str) -> int:
        """Return how often an open channel's log has broken off, and its clients here were told so."""
        channel = self._channels.get(self._publisher.channel(tenant, namespace))
        return channel.breaks if channel else 0

    def send_to_node(self, node: str, message: str) -> bool:
        """Tell one other node something; return False where nobody receiving it. Raises Unavailable."""
        return bool(self._redis.command("PUBLISH", self._keys.of_node(node), message))

    def close(self, tenant: str, namespace: str) -> None:
        """Let go of a channel for one client."""
        channel, control = self._publisher.channel(tenant, namespace), self._keys.of(tenant, "control")
        for place in (self._channels.get(channel), self._controls.get(control)):
            if place is not None:
                place.clients -= 1
                place.idle_since = time.monotonic()

    def _look_around(self) -> None:
        for places in (self._channels, self._controls):
            self._leave_idle(places)
        self._probe.publish()

    def _leave_idle(self, places: dict[str, Any]) -> None:
        now = time.monotonic()
        idle = [name for name, p in places.items() if p.clients <= 0 and now - p.idle_since > LINGER_SECONDS]
        for name in idle:
            del places[name]
            self._subscriber.unsubscribe(name)

    def _on_subscribed(self, name: str) -> None:
        if name in self._channels:
            self._following.align(self._channels[name])
        elif name in self._controls:
            control = self._controls[name]
            control.ready.set()
            self._on_control(control.tenant)
        elif name == self._probe.channel:
            self._probe.now.set()

    def _on_message(self, name: str, message: bytes) -> None:
        if len(message) > MAX_MESSAGE_BYTES:
            self._ignored("oversized")
            _rare.warning(f"a message of over {MAX_MESSAGE_BYTES} bytes on {name!r} was dropped")
        elif (channel := self._channels.get(name)) is not None:
            self.received += 1
            HEARD_EVENTS.value += 1
            try:
                announcement = decode(message)
            except ValueError:
                # Anyone with the Redis password can publish here. It is ignored and counted; the rest goes on.
                self._ignored("malformed")
                return
            if announcement.header.at:
                EVENT_AGE.observe(max(0.0, time.time() - announcement.header.at / 1000))
            self._following.accept(channel, announcement)
        elif name == self._probe.channel:
            if not self._probe.heard(message):
                self._on_node_message(message)
        elif name == self._outside_channel:
            self._outside(message)
        elif name in self._controls:
            self._on_control(self._controls[name].tenant)
        elif name in self._optional:
            self._optional[name](message)

    def _ignored(self, reason: str) -> None:
        self.dropped[reason] += 1
        IGNORED.add(reason)
