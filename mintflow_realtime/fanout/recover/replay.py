"""Replay: what a client missed is read from the log and sent before it is let into its rooms, never mixed with live.

While there is more than a page, pages are sent as the client takes them. For the last one its rooms are entered and
what arrives is held; the log is read up to where the node stood then; it is sent, and what was held follows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gevent

from mintflow_realtime.fanout.deliver.positions import Positions, marked
from mintflow_realtime.fanout.publish.publisher import Page, Publisher
from mintflow_realtime.fanout.recover.sessions import NotRecovered
from mintflow_realtime.fanout.rooms import states_room_of
from mintflow_realtime.fanout.session import Session
from mintflow_realtime.metrics.series import RECOVERED_EVENTS
from mintflow_realtime.protocol.envelope import ORIGIN, Offset, parse_offset
from mintflow_realtime.protocol.errors import Unavailable

# A client that takes nothing for this long has gone again.
PATIENCE_SECONDS = 30.0
FULL = 0.5
_LOOK_SECONDS = 0.02

# For a room of full states and the arguments of the last update that was missed: the arguments of an event that tells
# the state as it is, and the number of the log that it is as of.
Instead = Callable[[str, str], tuple[str, int]]


class NodeChannels(Protocol):
    """What replay needs of this node's channels."""

    def position(self, tenant: str, namespace: str) -> Offset: ...

    def breaks(self, tenant: str, namespace: str) -> int: ...

    def wait_until_passed(self, tenant: str, namespace: str, number: int) -> None: ...


@dataclass(slots=True)
class Missed:
    """What a client has missed, as far as it was read: after `at` comes `page`.

    `breaks` is how often this node had lost its way in the log when the reading began.
    """

    at: Offset
    page: Page
    breaks: int = 0


class Log:
    """Reads what was missed, and sees where it doesn't go on."""

    def __init__(self, publisher: Publisher, channels: NodeChannels) -> None:
        self._publisher, self._channels = publisher, channels

    def missed(self, session: Session, shown: Offset) -> Missed:
        """Return the beginning of what came after the offset that a client shows.

        Raises NotRecovered (`epoch`, `gap`) where the log doesn't go on from it, Unavailable.
        """
        if not session.start and shown == ORIGIN:
            raise NotRecovered("epoch")
        start = parse_offset(session.start) if session.start else None
        breaks = self._channels.breaks(session.tenant, session.namespace)
        # From the event itself on: if the log still holds it, whatever follows it goes on from it.
        page = self._publisher.page(session.tenant, session.namespace, shown.number)
        at = _latest(shown, start, page.head)
        if at is not shown:
            page = self._publisher.page(session.tenant, session.namespace, at.number)
        _check_epoch(at, page)
        return Missed(at, _after(page, at.number), breaks)

    def read(self, session: Session, at: Offset, head: Offset | None, last: int | None = None) -> Page:
        """Return what follows `at`, up to number `last`; `head` was the log's. Raises Unavailable."""
        page = self._publisher.page(session.tenant, session.namespace, at.number + 1, last)
        _check_gap(page, at.number)
        # Numbering that began anew more than once looks the same whether the log was lost or not. The log that holds
        # `at` still was not.
        if not _goes_on(head, page) and self._publisher.event(session.tenant, session.namespace, at) is None:
            raise Unavailable("The log began anew meanwhile")
        return page


class Replay(Log):
    """Brings a connecting client up to where its node stands."""

    def __init__(self, publisher: Publisher, channels: NodeChannels, clients: Positions) -> None:
        super().__init__(publisher, channels)
        self._clients = clients

    def replay(self, session: Session, missed: Missed, instead: Instead) -> None:
        """Send what was missed, then enter the session's rooms; the caller goes on without a switch.

        Raises Unavailable where Redis or the client doesn't answer, or the log was trimmed meanwhile.
        """
        at, page, states = missed.at, missed.page, dict[str, str]()
        while page.more:
            self._wait_for_client(session)
            at = self._send(session, page, at, states)
            page = self.read(session, at, page.head)
        tenant, namespace = session.tenant, session.namespace
        # What was sent already must not come again as live.
        self._channels.wait_until_passed(tenant, namespace, at.number)
        self._wait_for_client(session)
        rooms = dict(session.rooms)
        self._clients.begin_replay(session.sid, namespace, rooms)
        if self._channels.breaks(tenant, namespace) != missed.breaks:
            # Its rooms have been told that the log broke off. This client wasn't in them, so it is to ask again.
            raise Unavailable("The log broke off meanwhile")
        here = self._channels.position(tenant, namespace)
        last, head = page.events[-1].offset if page.events else at, page.head
        while last is not None and last.number < here.number:
            more = self.read(session, last, head, here.number)
            head = more.head
            if not more.events:
                raise Unavailable("The log was trimmed meanwhile")
            page.events.extend(more.events)
            last = more.events[-1].offset
        self._send(session, page, at, states, up_to=here.number)
        told: dict[str, int] = {}
        texts = []
        for room, arguments in states.items():
            text, told[room] = instead(room, arguments)
            texts.append(text)
        if told:
            self._channels.wait_until_passed(tenant, namespace, max(told.values()))
        for text in texts:
            self._post(session, marked(text, str(here)), "close", "")
        self._clients.end_history(session.sid, namespace, told)

    def _send(
        self, session: Session, page: Page, at: Offset, states: dict[str, str], up_to: float = float("inf")
    ) -> Offset:
        # A page is one piece for the connection.
        with self._clients.server.cork:
            for event in page.events:
                offset = event.offset
                if offset is None or offset.number > up_to:
                    break
                at = offset
                header = event.header
                if any(_concerns(session.rooms.get(room), offset, page.head) for room in header.rooms):
                    if header.except_sid != session.sid:
                        RECOVERED_EVENTS.value += 1
                        self._post(session, marked(event.arguments, event.mark), header.policy, header.key)
                for room in filter(None, map(states_room_of, header.rooms)):
                    if len(header.rooms) == 1 and _concerns(session.rooms.get(room), offset, page.head):
                        states[room] = event.arguments
        return at

    def _post(self, session: Session, arguments: str, policy: str, key: str) -> None:
        eio_sid = self._clients.eio_sid_from_sid(session.sid, session.namespace)
        if eio_sid is None:
            raise Unavailable("The client is gone again")
        self._clients.server.post(eio_sid, self._clients._message(session.namespace, arguments, policy, key))

    def _wait_for_client(self, session: Session) -> None:
        server: Any = self._clients.server
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            eio_sid = self._clients.eio_sid_from_sid(session.sid, session.namespace)
            if eio_sid not in server.environ or time.monotonic() > deadline:
                raise Unavailable("The client takes nothing, or is gone again")
            if server.backlog(eio_sid) < FULL:
                return
            gevent.sleep(_LOOK_SECONDS)


def _latest(shown: Offset, start: Offset | None, head: Offset | None) -> Offset:
    """Return the offset to go on from: one before the session's start counts as the start."""
    if start is None:
        return shown
    if shown.epoch == start.epoch:
        return max(shown, start, key=lambda offset: offset.number)
    # The session began in the epoch that is the log's still, so another is an earlier one's.
    return start if head is not None and start.epoch == head.epoch else shown


def _check_epoch(at: Offset, page: Page) -> None:
    head, ended = page.head, page.ended
    first = page.events[0].offset if page.events else None
    if at == ORIGIN or (head is not None and first == at):
        return
    if head is None or (first is not None and first.number == at.number):
        raise NotRecovered("epoch")
    if at.epoch == head.epoch and at.number <= head.number:
        return
    if ended is not None and at.epoch == ended.epoch and at.number <= ended.number:
        return
    raise NotRecovered("epoch")


def _check_gap(page: Page, number: int) -> None:
    """Raise Unavailable where the log no longer holds the event after `number`, though there is one."""
    first = page.events[0].offset if page.events else None
    if first is not None and first.number != number + 1:
        raise Unavailable("The log was trimmed meanwhile")


def _goes_on(before: Offset | None, page: Page) -> bool:
    """Tell whether a page is of the log whose head was `before` when it was read last."""
    head, ended = page.head, page.ended
    if before is None:
        return True
    if head is None or head.epoch == before.epoch:
        return head is not None and head.number >= before.number
    return ended is not None and ended.epoch == before.epoch and ended.number >= before.number


def _after(page: Page, number: int) -> Page:
    events = [event for event in page.events if event.offset is not None and event.offset.number > number]
    first = events[0].offset if events else None
    missing = first.number != number + 1 if first is not None else page.head is not None and page.head.number > number
    if missing and not (page.more and not events):
        raise NotRecovered("gap")
    return Page(page.head, page.ended, events, page.more)


def _concerns(since: str | None, offset: Offset, head: Offset | None) -> bool:
    """Tell whether an event came after a room was entered, where it was."""
    if since is None:
        return False
    began = parse_offset(since) or ORIGIN
    if began.epoch == offset.epoch:
        return offset.number > began.number
    return head is None or began.epoch != head.epoch
