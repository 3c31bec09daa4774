"""Replay for followers by server-sent events, who show an offset and say themselves what they follow."""

import time

import gevent

from mintflow_realtime.fanout.deliver.followers import Follower, Followers
from mintflow_realtime.fanout.publish.publisher import Publisher
from mintflow_realtime.fanout.recover.replay import PATIENCE_SECONDS, Log, Missed, NodeChannels
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.metrics.series import RECOVERED_EVENTS
from mintflow_realtime.protocol.envelope import ORIGIN, Announcement, Offset
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.server_sent import shown

_LOOK_SECONDS = 0.02


class FollowerReplay:
    """Reads what a follower has missed, and brings it up to where this node stands."""

    def __init__(self, publisher: Publisher, channels: NodeChannels, followers: Followers) -> None:
        self._channels, self._followers = channels, followers
        self._log = Log(publisher, channels)

    def missed(self, tenant: str, namespace: str, after: Offset) -> Missed:
        """Return the beginning of what came after an offset. Raises NotRecovered (`epoch`, `gap`), Unavailable."""
        return self._log.missed(_session(tenant, namespace), after)

    def concerns(self, missed: Missed, rooms: tuple[str, ...]) -> bool:
        """Tell whether something of `rooms` was missed, as far as it was read; True where there is more."""
        return missed.page.more or any(not set(rooms).isdisjoint(event.header.rooms) for event in missed.page.events)

    def go_live(self, follower: Follower, missed: Missed) -> None:
        """Send what was missed, and let the follower hear what comes. Raises Unavailable."""
        session = _session(follower.tenant, follower.namespace)
        at, page = missed.at, missed.page
        while page.more:
            self._wait_for_room(follower)
            at = self._send(follower, page.events) or at
            page = self._log.read(session, at, page.head)
        # What was sent already must not come again as live.
        self._channels.wait_until_passed(follower.tenant, follower.namespace, at.number)
        self._wait_for_room(follower)
        self._followers.enter(follower)
        if self._channels.breaks(follower.tenant, follower.namespace) != missed.breaks:
            raise Unavailable("The log broke off meanwhile")
        here = self._channels.position(follower.tenant, follower.namespace)
        events, head = list(page.events), page.head
        last = events[-1].offset if events else at
        while last is not None and last.number < here.number:
            more = self._log.read(session, last, head, here.number)
            if not more.events:
                raise Unavailable("The log was trimmed meanwhile")
            head, last = more.head, more.events[-1].offset
            events += more.events
        self._send(follower, [one for one in events if one.offset is not None and one.offset.number <= here.number])
        held, follower.held = follower.held or [], None
        for announcement in held:
            told = shown(announcement)
            if told is not None:
                follower.tell(announcement, told, asked=True)

    def _send(self, follower: Follower, events: list[Announcement]) -> Offset | None:
        for one in events:
            told = None if set(follower.rooms).isdisjoint(one.header.rooms) else shown(one)
            if told is not None:
                RECOVERED_EVENTS.value += 1
                follower.tell(one, told, asked=True)
        return events[-1].offset if events else None

    def _wait_for_room(self, follower: Follower) -> None:
        stream = follower.stream
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            if stream is None or not stream.open or time.monotonic() > deadline:
                raise Unavailable("The client takes nothing, or is gone again")
            if stream.has_room:
                return
            gevent.sleep(_LOOK_SECONDS)


def _session(tenant: str, namespace: str) -> Session:
    return Session(tenant, namespace, "", "", str(ORIGIN))
