"""Server-sent events: who may follow what, from where on, and for how long."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from mintflow_realtime.admission.protocols import TenantChannels
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.deliver.followers import Follower, Followers, Stream
from mintflow_realtime.fanout.recover.follower_replay import FollowerReplay
from mintflow_realtime.fanout.recover.replay import Missed
from mintflow_realtime.fanout.recover.sessions import NotRecovered, read_offset
from mintflow_realtime.metrics.series import CONNECTIONS, CONNECTS
from mintflow_realtime.protocol.envelope import Offset
from mintflow_realtime.protocol.errors import Unavailable
from mintflow_realtime.protocol.server_sent import retry
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog

_log = logging.getLogger("mintflow.streams")


class LiveStream(Stream, Protocol):
    """A connection that ends by itself when its principal does."""

    def live_for(self, seconds: float) -> None: ...


class Streams(Protocol):
    """What makes streams of detached sockets."""

    def __len__(self) -> int: ...

    def make(
        self,
        sock: Any,
        chunked: bool,
        *,
        quiet: Callable[[], bytes],
        missed: Callable[[int], bytes],
        ended: Callable[[], object],
    ) -> LiveStream: ...


class Positions(TenantChannels, Protocol):
    """What is asked of this node's channels."""

    def position(self, tenant: str, namespace: str) -> Offset: ...


class Following:
    """One who may follow: `take` the connection behind the answer's head, or `close`."""

    def __init__(self, owner: "EventStreams", principal: Principal, follower: Follower) -> None:
        self.principal, self.follower = principal, follower
        self.missed: Missed | None = None
        self.resync = self.over = ""
        self._owner = owner
        self._began: float | None = None
        self._closed = False

    def take(self, sock: Any, chunked: bool) -> None:
        """Send what was missed, then what comes; may wait for the client meanwhile."""
        follower, owner = self.follower, self._owner
        self._began = time.monotonic()
        CONNECTS.add(follower.namespace)
        CONNECTIONS.add(1, "sse", follower.namespace)
        stream = owner.streams.make(sock, chunked, quiet=follower.quiet, missed=follower.missed, ended=self._ended)
        follower.stream = stream
        owner.here[self] = None
        if self.principal.expires_at is not None:
            stream.live_for(max(0.0, self.principal.expires_at - time.time()))
        try:
            if self.missed is not None:
                stream.send(retry())
                follower.begin(self.missed.at, self.resync)
                owner.replay.go_live(follower, self.missed)
            if self.over and stream.open:
                follower.end(self.over)
        except Unavailable as error:
            # Its client comes back by itself, and goes on from what it has.
            _log.info("a stream of %s ends: %s", follower.namespace, error)
            stream.finish()
        except BaseException:
            stream.abort()
            raise

    def close(self) -> None:
        """Let go, unless the connection was taken."""
        if self._began is None:
            self._leave()

    def _ended(self) -> None:
        owner, follower, began = self._owner, self.follower, self._began
        follower.stream = None
        owner.here.pop(self, None)
        CONNECTIONS.add(-1, "sse", follower.namespace)
        owner.followers.leave(follower)
        self._leave()
        owner.access_log.note(
            "closed",
            user=self.principal.user_id,
            tenant=follower.tenant,
            namespace=follower.namespace,
            reason="stream",
            duration=round(time.monotonic() - (began or 0.0), 3),
        )

    def _leave(self) -> None:
        if not self._closed:
            self._closed = True
            self._owner.channels.close(self.follower.tenant, self.follower.namespace)


class EventStreams:
    """Those who follow on this node. `room_for_more` tells whether another connection may be held."""

    def __init__(
        self,
        access: Access,
        channels: Positions,
        followers: Followers,
        replay: FollowerReplay,
        streams: Streams,
        access_log: AccessLog,
        room_for_more: Callable[[], bool],
    ) -> None:
        self.access, self.channels, self.followers, self.replay = access, channels, followers, replay
        self.streams, self.access_log = streams, access_log
        self._room_for_more = room_for_more
        self.here: dict[Following, None] = {}
        self._unchecked: set[str] = set()

    def open(
        self,
        principal: Principal,
        namespace: str,
        rooms: tuple[str, ...],
        last: str | None,
        *,
        ends: frozenset[str] = frozenset(),
        over: Callable[[], bool] = lambda: False,
        dropped: str = "",
    ) -> Following | None:
        """Return the following of `rooms` from the offset `last` on; None where nothing more is to come.

        `over` tells whether what is followed has ended, by one of the events `ends`. Raises Unavailable.
        """
        if not self._room_for_more():
            raise Unavailable("There is no room for another stream")
        tenant = principal.tenant
        self.channels.open(tenant, namespace)
        follower = Follower(tenant, namespace, rooms, self.channels.position, ends, dropped)
        following = Following(self, principal, follower)
        try:
            # Once more, now that this node hears of the tenant's revocations: one between the two is in Redis.
            if self.access.revoked([principal])[0]:
                raise Unavailable("Revoked while connecting")
            here = self.channels.position(tenant, namespace)
            ended = over()
            if last is not None:
                try:
                    following.missed = self.replay.missed(tenant, namespace, read_offset(last, ""))
                except NotRecovered as no:
                    following.resync = no.reason
            if ended:
                if following.missed is not None and not self.replay.concerns(following.missed, rooms):
                    following.close()
                    return None
                following.over = str(self.channels.position(tenant, namespace))
            if following.missed is None:
                # Also where it has ended just now: what came since is not to be missed.
                following.missed = self.replay.missed(tenant, namespace, here)
        except NotRecovered as no:
            following.close()
            raise Unavailable("The log began anew") from no
        except BaseException:
            following.close()
            raise
        return following

    def recheck(self, tenant: str) -> None:
        """Note that something was revoked in a tenant, or may have been: the next tick looks."""
        self._unchecked.add(tenant)

    def tick(self) -> None:
        """End the streams of those who were revoked."""
        for tenant in tuple(self._unchecked):
            self._unchecked.discard(tenant)
            found = [one for one in tuple(self.here) if one.principal.tenant == tenant and one.principal.revocable]
            try:
                answers = self.access.revoked([one.principal for one in found])
            except Unavailable:
                self._unchecked.add(tenant)
                continue
            for following, revoked in zip(found, answers, strict=True):
                if revoked and following.follower.stream is not None:
                    following.follower.stream.finish()
