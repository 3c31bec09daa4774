"""What a packet waits for before somebody acts on it: its attachments, and long ones their turns to be read.

Nothing more of its sender is read meanwhile.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from mintflow_realtime.transport.engine_io.server import EngineServer
from mintflow_realtime.transport.engine_io.session import Session
from mintflow_realtime.transport.loop.timer_wheel import Timer
from mintflow_realtime.transport.socket_io.packet import Head, Incoming, Partial, decode_after

# Characters; reading less takes under 5 ms, whatever it is.
LONG = 65_536
# So few containers are freed in no time.
FEW = 4096
# The longest that the cycle collector is kept from what a message was read into.
CALM_SECONDS = 5.0

_log = logging.getLogger("mintflow.sockets")

LetGo = Callable[[], None]
"""Frees what a long message was read into."""


class Turns(Protocol):
    """Gives slices of time to long work, of which there is one at a time in this process."""

    def work(self) -> AbstractContextManager[Callable[[], None]]:
        """Wait for a slice; call what this gives after each short step."""
        ...

    def calm(self) -> AbstractContextManager[None]:
        """Keep Python's cycle collector from what is old."""
        ...


class LongMessages:
    """Part of the reading half of a Socket.IO server.

    Without `turns`, and with a `json` module that has no `loads_in_turns` and `let_go`, long messages are read at once.
    """

    turns: Turns | None = None
    eio: EngineServer
    packet_class: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        self._partial: dict[str, Partial] = {}
        super().__init__(*args, **options)

    if TYPE_CHECKING:

        def _act(self, session: Session, incoming: Incoming, let_go: LetGo | None = None) -> None: ...

    def _broken(self, session: Session, error: Exception) -> None:
        _log.info("closing a connection that breaks the protocol: %s", error)
        session.close(self.eio.reason.TRANSPORT_ERROR)

    def _settle(self, session: Session, work: Callable[[], Any], then: Callable[..., None] | None = None) -> None:
        """Read nothing more of a connection until `work` is done: what comes next depends on it.

        `then` takes what it returned, a tuple: in the hub where nobody had to wait, so that what it begins does begin
        before what is read next.
        """
        waiting = False
        found: list[Any] = []

        def settle() -> None:
            try:
                value = work()
                if then is not None and waiting:
                    then(*value)
                elif then is not None:
                    found.append(value)
            except (ValueError, KeyError) as error:
                self._broken(session, error)
            finally:
                if waiting:
                    session.resume()

        if not self.eio.greenlets.finish(settle):
            session.pause()
            waiting = True
        elif then is not None and found:
            then(*found[0])

    def _take_attachment(self, session: Session, data: bytes) -> None:
        coming = self._partial.get(session.sid)
        if coming is None:
            raise ValueError("An attachment that belongs to nothing")
        if coming.add(data):
            del self._partial[session.sid]
            self._complete(session, coming)

    def _complete(self, session: Session, coming: Partial) -> None:
        """Act on a packet whose attachments are there. Raises ValueError."""
        if coming.is_long:
            self._settle(session, partial(self._fill_long, coming), partial(self._act, session))
        else:
            self._act(session, coming.whole())

    def _abandon(self, eio_sid: str) -> None:
        """Forget a packet whose attachments won't come."""
        coming = self._partial.pop(eio_sid, None)
        if coming is not None:
            self._let_go_soon(coming.let_go)

    def _let_go_soon(self, let_go: LetGo | None) -> None:
        """Free what a long message was read into, now that nobody acts on it."""
        if let_go is not None:
            self.eio.greenlets.run(let_go)

    def _read_long(self, text: str, head: Head) -> tuple[Incoming, LetGo | None]:
        """Read a long text, and say how to free what it was read into. Raises ValueError."""
        json = self.packet_class.json
        if self.turns is None or not hasattr(json, "loads_in_turns"):
            return decode_after(head, text, json.loads), None
        made: list[Any] = []
        calm = ExitStack()
        calm.enter_context(self.turns.calm())
        try:
            with self.turns.work() as pause:
                incoming = decode_after(head, text, partial(json.loads_in_turns, pause=pause, made=made))
        except BaseException:
            # Not at once, where there is much of it.
            self.eio.greenlets.run(partial(self._let_go, made, calm))
            raise
        let_go = None
        if len(made) > FEW:
            # An application's handler may take as long as it likes.
            self.eio.timers.set(Timer(calm.close), CALM_SECONDS)
            let_go = partial(self._let_go, made, calm)
        else:
            calm.close()
        return incoming, let_go

    def _fill_long(self, coming: Partial) -> tuple[Incoming, LetGo | None]:
        """Put attachments in their places in a long packet. Raises ValueError."""
        if self.turns is None:
            return coming.whole(), coming.let_go
        try:
            with self.turns.work() as pause:
                return coming.whole(pause), coming.let_go
        except BaseException:
            if coming.let_go is not None:
                self.eio.greenlets.run(coming.let_go)
            raise

    def _let_go(self, made: list[Any], calm: ExitStack) -> None:
        """Free what a long message was read into, now that nobody else holds it."""
        assert self.turns is not None
        with calm, self.turns.calm(), self.turns.work() as pause:
            self.packet_class.json.let_go(made, pause)
