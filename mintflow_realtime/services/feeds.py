"""What a service needs of this node's rooms; only a process that serves sockets has one."""

from collections.abc import Sequence
from typing import Protocol


class Feeds(Protocol):
    """The rooms of this node's clients. To enter with a `sid` that is gone raises ValueError."""

    def enter(self, sid: str, namespace: str, room: str) -> None:
        """Put a client into a room."""
        ...

    def leave(self, sid: str, namespace: str, room: str) -> None:
        """Take a client out of a room."""
        ...

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """Return a client's rooms."""
        ...

    def begin_history(self, sid: str, namespace: str, room: str) -> None:
        """Enter a room, and keep all events for the client until its command is answered."""
        ...

    def catch_up(self, sid: str, tenant: str, namespace: str, number: int, leaving: Sequence[str] = ()) -> None:
        """Say that the answer tells of the held room's events up to `number`, and leave the rooms that end there.

        Waits until this node has heard up to there, and sends what the client's other rooms let it hear of that.
        Raises Unavailable after 2 s.
        """
        ...
