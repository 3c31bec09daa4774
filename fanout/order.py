"""One channel as one node hears it: events in number order, each once. Pure: no Redis, no socket, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from protocol.envelope import Announcement, Offset

# Announcements that arrive between the subscription's confirmation and the head are kept for as long as reading
# one hash takes. Beyond this many, the head is read anew instead.
MAX_EARLY = 4096


@dataclass(slots=True)
class Order:
    """Where a node stands in one channel.

    `position` is None while the log is empty. `lost` says why continuity ended (a missing number, an epoch that
    doesn't continue ours); whoever delivers must tell the clients, then clear it.
    """

    position: Offset | None = None
    lost: str | None = None
    aligned: bool = False
    _known: bool = False
    _early: list[Announcement] = field(default_factory=list)

    def hold(self) -> None:
        """Keep what arrives until `align`: the subscription is new, so what came before it must be asked for."""
        self._early = []
        self.aligned = False

    def align(self, head: Offset | None, ended: Offset | None = None) -> Iterator[Announcement]:
        """Take the log's head, read after the subscription was confirmed, and yield what came after it.

        `ended` is where the epoch before the head's ended. A first alignment misses nothing: nobody listened yet.
        """
        if self.aligned and _is_behind(head, self.position):
            # Two subscriptions in quick succession: this head was read before what has been heard since.
            return
        early, self._early = self._early, []
        first = next((announcement.offset for announcement in early if announcement.offset), None)
        if not (self._known and first is not None and first.number == _next(self.position)):
            if self._known and not _continues(self.position, head, ended):
                self.lost = "gap"
            self.position = head
        self.aligned = self._known = True
        for announcement in early:
            yield from self.accept(announcement)

    def accept(self, announcement: Announcement) -> Iterator[Announcement]:
        """Yield the announcement if it is the next one, or volatile; nothing for one that was heard before."""
        if not self.aligned:
            if len(self._early) < MAX_EARLY:
                self._early.append(announcement)
            else:
                self.lost = "gap"
            return
        offset = announcement.offset
        if offset is not None:
            here = self.position
            if here is not None and offset.epoch == here.epoch and offset.number <= here.number:
                return
            if offset.number != _next(here):
                self.lost = "gap" if here is None or offset.epoch == here.epoch else "epoch"
            self.position = offset
        yield announcement


def _next(here: Offset | None) -> int:
    return (here.number if here else 0) + 1


def _is_behind(head: Offset | None, here: Offset | None) -> bool:
    return here is not None and (head is None or (head.epoch == here.epoch and head.number < here.number))


def _continues(here: Offset | None, head: Offset | None, ended: Offset | None) -> bool:
    """Tell whether a node at `here` has missed nothing up to `head`."""
    if here is None or head is None:
        return here is head
    if head.epoch == here.epoch:
        return head.number == here.number
    return ended is not None and ended.epoch == here.epoch and ended.number == here.number == head.number
