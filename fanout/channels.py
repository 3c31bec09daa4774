"""The channels that this node holds clients of: opened with the first, left some time after the last."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import gevent
from gevent.event import Event

from fanout.channel import Channel, Control
from fanout.listener import Ear
from fanout.publisher import Publisher
from protocol.envelope import ORIGIN, Announcement, Offset, decode
from protocol.errors import Unavailable
from protocol.scripts import Keys, Runner

OPEN_SECONDS = 2.0
# A tenant whose last client reloads its page should not cost a subscription each time.
LINGER_SECONDS = 30.0
CANARY_SECONDS = 2.0
DEAF_SECONDS = 6.0
MAX_MESSAGE_BYTES = 2_000_000
_SONG = b"1"

_log = logging.getLogger("mintflow.channels")


class Channels:
    """Hears what this node's clients are entitled to and hands it on in number order.

    `deliver(namespace, announcement)` sends to local clients. `lost(tenant, namespace, reason)` tells them to fetch
    anew. `said(tenant)` is called when something was said to all of a tenant's nodes (a revocation), and when this
    node may have missed that. `outside(message)` takes the library's own channel. None of them may block. In the
    namespaces `volatile` much is said without a number, so that after a broken subscription something may be missing
    that the log doesn't tell of: their clients are told each time.
    """

    def __init__(
        self,
        redis: Runner,
        keys: Keys,
        publisher: Publisher,
        listen: Callable[[Callable[[str, bytes], None], Callable[[str], None]], Ear],
        *,
        node: str,
        outside_channel: str,
        outside: Callable[[bytes], None],
        deliver: Callable[[str, Announcement], None],
        lost: Callable[[str, str, str], None],
        said: Callable[[str], None],
        ordered: Callable[[bytes], None] = lambda message: None,
        volatile: Collection[str] = (),
    ) -> None:
        self._redis, self._keys, self._publisher = redis, keys, publisher
        self._listener = listen(self._heard, self._confirmed)
        self._outside_channel, self._outside = outside_channel, outside
        self._deliver, self._lost, self._said, self._ordered = deliver, lost, said, ordered
        self._volatile = frozenset(volatile)
        self._canary = keys.shared("canary", node)
        self._canary_heard = -DEAF_SECONDS
        self._sing_now = Event()
        self._heard_once = Event()
        self._channels: dict[str, Channel] = {}
        self._controls: dict[str, Control] = {}
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        # Messages of tenants' channels: a node that holds none of a tenant's clients hears none of its.
        self.heard = 0
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to listen, with the canary and the library's channel."""
        self._listener.start()
        self._listener.want(self._canary)
        self._listener.want(self._outside_channel)
        self._greenlets = [gevent.spawn(self._sing)]

    def stop(self) -> None:
        """Stop listening."""
        gevent.killall(self._greenlets)
        self._listener.stop()

    @property
    def hears(self) -> bool:
        """Tell whether this node has heard its own canary within 6 s."""
        return time.monotonic() - self._canary_heard < DEAF_SECONDS

    def wait_until_heard(self, seconds: float) -> bool:
        """Wait at most `seconds` for this node to hear anything at all; return whether it did."""
        return bool(self._heard_once.wait(seconds))

    def open(self, tenant: str, namespace: str) -> None:
        """Hold a channel for one more client; return once its subscription is confirmed and its head known.

        Raises Unavailable after 2 s.
        """
        name = self._publisher.channel(tenant, namespace)
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(tenant, namespace=namespace)
            self._listener.want(name)
        control_name = self._keys.of(tenant, "control")
        control = self._controls.get(control_name)
        if control is None:
            control = self._controls[control_name] = Control(tenant)
            self._listener.want(control_name)
        channel.clients += 1
        control.clients += 1
        deadline = time.monotonic() + OPEN_SECONDS
        try:
            for ready in (control.ready, channel.ready):
                if not ready.wait(max(0.0, deadline - time.monotonic())):
                    raise Unavailable("This node can't hear the tenant's events at the moment")
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

    def order(self, node: str, what: str) -> bool:
        """Tell one other node something; return False where nobody hears it. Raises Unavailable."""
        return bool(self._redis.command("PUBLISH", self._keys.shared("canary", node), what))

    def close(self, tenant: str, namespace: str) -> None:
        """Let go of a channel for one client."""
        for place in (
            self._channels.get(self._publisher.channel(tenant, namespace)),
            self._controls.get(self._keys.of(tenant, "control")),
        ):
            if place is not None:
                place.clients -= 1
                place.idle_since = time.monotonic()

    def _sing(self) -> None:
        while True:
            try:
                self._redis.command("PUBLISH", self._canary, _SONG)
            except Unavailable as error:
                _log.warning("the canary can't sing: %s", error)
            self._leave_idle(self._channels)
            self._leave_idle(self._controls)
            self._sing_now.wait(CANARY_SECONDS)
            self._sing_now.clear()

    def _leave_idle(self, places: dict[str, Any]) -> None:
        now = time.monotonic()
        idle = [name for name, p in places.items() if p.clients <= 0 and now - p.idle_since > LINGER_SECONDS]
        for name in idle:
            del places[name]
            self._listener.leave(name)

    def _confirmed(self, name: str) -> None:
        if name in self._channels:
            self._align_anew(name, self._channels[name])
        elif name in self._controls:
            control = self._controls[name]
            control.ready.set()
            self._said(control.tenant)
        elif name == self._canary:
            self._sing_now.set()

    def _align_anew(self, name: str, channel: Channel) -> None:
        channel.order.hold()
        channel.confirmed += 1
        gevent.spawn(self._align, name, channel, channel.confirmed)

    def _align(self, name: str, channel: Channel, confirmed: int) -> None:
        while self._channels.get(name) is channel and channel.confirmed == confirmed:
            try:
                head, ended = self._publisher.head(channel.tenant, channel.namespace)
                if self._catch_up(channel, confirmed, head, ended):
                    self._pass_on(channel, channel.order.align(head, ended))
                    if channel.ready.is_set() and channel.namespace in self._volatile:
                        self._lost(channel.tenant, channel.namespace, "gap")
                    channel.ready.set()
                    return
            except Unavailable:
                gevent.sleep(0.2)

    def _catch_up(self, channel: Channel, confirmed: int, head: Offset | None, ended: Offset | None) -> bool:
        """Deliver from the log what was missed up to its head; False where the subscription is a newer one by now."""
        while missed := channel.order.missed(head, ended):
            page = self._publisher.page(channel.tenant, channel.namespace, missed[0], missed[-1])
            if channel.confirmed != confirmed:
                return False
            before = channel.order.position
            for event in page.events:
                self._pass_on(channel, channel.order.replay(event, ended))
            if channel.order.position == before:
                # The log doesn't hold it any more, which `align` will tell.
                break
        return channel.confirmed == confirmed

    def _heard(self, name: str, message: bytes) -> None:
        if len(message) > MAX_MESSAGE_BYTES:
            self.dropped["oversized"] += 1
        elif (channel := self._channels.get(name)) is not None:
            self.heard += 1
            try:
                announcement = decode(message)
            except ValueError:
                # Anyone with the Redis password can publish here. It is ignored and counted; the rest goes on.
                self.dropped["malformed"] += 1
                return
            if channel.order.skips(announcement):
                self._align_anew(name, channel)
            self._pass_on(channel, channel.order.accept(announcement))
        elif name == self._canary:
            if message != _SONG:
                self._ordered(message)
                return
            self._canary_heard = time.monotonic()
            self._heard_once.set()
        elif name == self._outside_channel:
            self._outside(message)
        elif name in self._controls:
            self._said(self._controls[name].tenant)

    def _pass_on(self, channel: Channel, announcements: Iterable[Announcement]) -> None:
        for announcement in announcements:
            self._tell_lost(channel)
            self._deliver(channel.namespace, announcement)
        lost = self._tell_lost(channel)
        for number, passed in channel.waiting:
            if lost or channel.number >= number:
                passed.set()

    def _tell_lost(self, channel: Channel) -> bool:
        reason, channel.order.lost = channel.order.lost, None
        if reason is not None:
            self._lost(channel.tenant, channel.namespace, reason)
        return reason is not None
