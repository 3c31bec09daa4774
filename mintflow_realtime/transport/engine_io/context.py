"""What the sessions of one server share; a session knows no more of the server than this."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from mintflow_realtime.transport.loop.greenlet_pool import GreenletPool
from mintflow_realtime.transport.loop.poller import Poller
from mintflow_realtime.transport.loop.timer_wheel import TimerWheel


class SessionContext:
    """Times in seconds, sizes in bytes. The server is one of these."""

    poller: Poller
    timers: TimerWheel
    greenlets: GreenletPool
    disconnect_greenlets: GreenletPool
    """Runs what ends sessions. All may end in one moment, and what each then asks of others is no more urgent."""
    sockets: dict[str, Any]
    """The sessions by their ids."""
    direct: dict[str, Callable[[bytes], int]]
    """The kernel's `send` of each session that may be sent to right away: a WebSocket for which nothing waits."""
    handlers: dict[str, Callable[..., Any]]
    """The application's handlers of `connect`, `message` and `disconnect`."""
    reason: Any
    """Why sessions end, in the library's words."""
    ping_interval: float
    ping_timeout: float
    connect_timeout: float
    max_http_buffer_size: int
    outbox_bytes: int
    merge: Callable[[str, str], str | None] | None = None
    """Makes one packet's text of two of a stream, for the policy `merge`."""
    upgraded: Callable[[str], None] = staticmethod(lambda sid: None)
    """Called with a session that went over from polling to a WebSocket."""
    tell_dropped: Callable[[str, Counter[str]], None] = staticmethod(lambda sid, dropped: None)
    """Called with a session that takes more by now, and what it has missed, counted by key."""
    note_gaps: Callable[[str, list[tuple[str, str, str]]], None] = staticmethod(lambda sid, gaps: None)
    """Called with the same by marks: key, the first and the last of each run."""
    note_pause: Callable[[str, float], None] = staticmethod(lambda sid, seconds: None)
    """Called with a session for which nothing waits any more, and for how long something did: a second at least."""
    note_unsent: Callable[[str, dict[str, str]], None] = staticmethod(lambda sid, marks: None)
    """Called with a session that ends while something waits for it, and the mark of the first of that, by key."""
