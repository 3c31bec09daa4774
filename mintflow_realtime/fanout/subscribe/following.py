"""How a node goes along a channel's log: each event once and in order, what was missed read anew, breaks told."""

import logging
from collections.abc import Callable, Collection, Iterable

from mintflow_realtime import tracing
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.fanout.subscribe.alignments import Alignments
from mintflow_realtime.fanout.subscribe.channel import Channel
from mintflow_realtime.metrics.series import CATCH_UPS, CAUGHT_UP_EVENTS, EPOCH_CHANGES, LOG_BREAKS
from mintflow_realtime.protocol.envelope import Announcement, Offset
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.rare_log import RareLog

_rare = RareLog(logging.getLogger("mintflow.channels"))


class Following:
    """Hands on what `align` and `accept` find. `holds(channel)` says whether it is this node's still.

    The other arguments are those of `Channels`.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        holds: Callable[[Channel], bool],
        deliver: Callable[[str, Announcement], None],
        lost: Callable[[str, str, str], None],
        heard: Callable[[str, Offset], None],
        volatile: Collection[str],
    ) -> None:
        self._publisher, self._holds = publisher, holds
        self._deliver, self._lost, self._heard = deliver, lost, heard
        self._volatile = frozenset(volatile)
        self._alignments = Alignments(self._align)

    def stop(self) -> None:
        """Read no more."""
        self._alignments.stop()

    def accept(self, channel: Channel, announcement: Announcement) -> None:
        """Take what was heard on a channel."""
        if channel.order.skips(announcement):
            self.align(channel)
        self._pass_on(channel, channel.order.accept(announcement))

    def align(self, channel: Channel) -> None:
        """Find out soon where a channel stands, and keep what is heard until then."""
        CATCH_UPS.value += 1
        channel.order.keep()
        channel.confirmed += 1
        self._alignments.ask((channel, channel.confirmed), first=not channel.ready.is_set())

    def _align(self, asked: tuple[Channel, int]) -> bool:
        """Find out where a channel stands, and deliver what was missed; False where that can't be had now."""
        channel, confirmed = asked
        if not self._holds(channel) or channel.confirmed != confirmed:
            return True
        try:
            head, ended = self._publisher.head(channel.tenant, channel.namespace)
            if self._catch_up(channel, confirmed, head, ended):
                self._pass_on(channel, channel.order.align(head, ended))
                if channel.ready.is_set() and channel.namespace in self._volatile:
                    self._lost(channel.tenant, channel.namespace, "gap")
                channel.ready.set()
        except Unavailable:
            return False
        except Exception as error:
            _rare.warning("a channel could not be aligned with its log, and is tried again", error=error)
            return False
        return True

    def _catch_up(self, channel: Channel, confirmed: int, head: Offset | None, ended: Offset | None) -> bool:
        """Deliver from the log what was missed up to its head; False where the subscription is a newer one by now."""
        while missed := channel.order.missed(head, ended):
            page = self._publisher.page(channel.tenant, channel.namespace, missed[0], missed[-1])
            if channel.confirmed != confirmed:
                return False
            before = channel.order.position
            CAUGHT_UP_EVENTS.value += len(page.events)
            for event in page.events:
                self._pass_on(channel, channel.order.replay(event, ended))
            if channel.order.position == before:
                # The log doesn't hold it any more, which `align` will tell.
                break
        return channel.confirmed == confirmed

    def _pass_on(self, channel: Channel, announcements: Iterable[Announcement]) -> None:
        for announcement in announcements:
            self._tell_lost(channel)
            self._note_epoch(channel)
            if announcement.offset is not None:
                self._heard(channel.name, announcement.offset)
            if tracing.on:
                with tracing.delivering(channel.namespace, announcement.header.traceparent):
                    self._deliver(channel.namespace, announcement)
            else:
                self._deliver(channel.namespace, announcement)
        lost = self._tell_lost(channel)
        self._note_epoch(channel)
        for number, passed in channel.waiting:
            if lost or channel.number >= number:
                passed.set()

    def _note_epoch(self, channel: Channel) -> None:
        position = channel.order.position
        if position is not None and position.epoch != channel.epoch:
            if channel.epoch:
                EPOCH_CHANGES.value += 1
            channel.epoch = position.epoch

    def _tell_lost(self, channel: Channel) -> bool:
        reason, channel.order.lost = channel.order.lost, None
        if reason is not None:
            LOG_BREAKS.add(reason)
            channel.breaks += 1
            self._lost(channel.tenant, channel.namespace, reason)
        return reason is not None
