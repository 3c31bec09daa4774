"""One channel as one node hears it: events in number order, each once. Pure: no Redis, no socket, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mintflow_realtime.protocol.envelope import ORIGIN, Announcement, Offset

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

    def keep(self) -> None:
        """Keep what arrives until `align`: the subscription is new, so what came before it must be asked for."""
        self._early = []
        self.aligned = False

    def missed(self, head: Offset | None, ended: Offset | None) -> range:
        """Return the numbers that this node may have missed up to the log's head: what to read from the log.

        Empty where nobody listened before, where nothing was missed, and where the numbering doesn't go on.
        """
        here = self.position
        if not self._known or head is None or self._goes_on_early(ended):
            return range(0)
        begins = here is None or head.epoch == here.epoch or _ends_after(ended, here)
        return range(_next(here), head.number + 1) if begins else range(0)

    def replay(self, announcement: Announcement, ended: Offset | None) -> Iterator[Announcement]:
        """Yield an event that was read from the log, if it is the next one."""
        offset, here = announcement.offset, self.position
        if offset is not None and offset.number == _next(here):
            if here is None or offset.epoch == here.epoch or ended == here:
                self.position = offset
                yield announcement

    def align(self, head: Offset | None, ended: Offset | None = None) -> Iterator[Announcement]:
        """Take the log's head, read after the subscription was confirmed, and yield what came after it.

        `ended` is where the epoch before the head's ended. A first alignment misses nothing: nobody listened yet.
        """
        if self.aligned and _is_behind(head, self.position):
            # Two subscriptions in quick succession: this head was read before what has been heard since.
            return
        if not (self._known and self._goes_on_early(ended)):
            if self._known and not _continues(self.position, head, ended):
                self.lost = "gap"
            self.position = head
        early, self._early = self._early, []
        self.aligned = self._known = True
        for announcement in early:
            yield from self.accept(announcement)

    def _goes_on_early(self, ended: Offset | None) -> bool:
        """Tell whether what was heard since the subscription begins right after our position."""
        first = next((announcement.offset for announcement in self._early if announcement.offset), None)
        here = self.position
        if first is None or first.number != _next(here):
            return False
        return here is None or first.epoch == here.epoch or ended == here

    def skips(self, announcement: Announcement) -> bool:
        """Tell whether a number is missing before this one: the log may hold it."""
        offset = announcement.offset
        return self.aligned and offset is not None and offset.number > _next(self.position)

    def accept(self, announcement: Announcement) -> Iterator[Announcement]:
        """Yield the announcement if it is the next one, or volatile; nothing for one that was heard before."""
        if not self.aligned:
            if len(self._early) < MAX_EARLY:
                self._early.append(announcement)
            else:
                self.lost = "gap"
            return
        offset, here = announcement.offset, self.position
        if offset is None:
            here = here or ORIGIN
            announcement = announcement._replace(after=here.number, mark=announcement.mark or str(here))
        else:
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


def _ends_after(ended: Offset | None, here: Offset) -> bool:
    return ended is not None and ended.epoch == here.epoch and ended.number >= here.number


def _continues(here: Offset | None, head: Offset | None, ended: Offset | None) -> bool:
    """Tell whether a node at `here` has missed nothing up to `head`."""
    if here is None or head is None:
        return here is head
    if head.epoch == here.epoch:
        return head.number == here.number
    return ended is not None and ended.epoch == here.epoch and ended.number == here.number == head.number
