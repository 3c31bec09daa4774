"""One recovering client's session, as the node holds it that the client is connected to."""

from dataclasses import dataclass, field
from typing import Any

from gevent.lock import BoundedSemaphore


@dataclass(slots=True, eq=False)
class Session:
    """One client's session as its node holds it.

    `rooms` says of each room from which offset on its events are the client's; `changed` are those entered or left
    since the last save. `resync` is why it is not another one that goes on, until its client is known to have heard it.
    `sent` and `sent_at` tell the last offset that the client was sent, and when.
    """

    tenant: str
    namespace: str
    sid: str
    pid: str = field(repr=False)
    start: str
    generation: int = 1
    resync: str = ""
    rooms: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    saved: bool = False
    stale: bool = False
    sent: int = 0
    sent_at: float = 0.0
    saving: Any = field(default_factory=lambda: BoundedSemaphore(1))
