"""A blocking Socket.IO client for tests: no gevent, no patched process; a thread of its own reads."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from mintflow_realtime.testing.clients import packets
from mintflow_realtime.testing.clients.connection import connect
from mintflow_realtime.testing.clients.engine import NotConnected
from mintflow_realtime.testing.clients.refusals import error_of
from mintflow_realtime.testing.clients.session import ClientSession, Event

STEP_SECONDS = 10.0
GOODBYE_SECONDS = 1.0
CLOSE_SECONDS = 5.0
MAX_LOST_SECONDS = 3600.0
SHOWN_EVENTS = 20
SHOWN_CHARACTERS = 200

Matching = Callable[[Any], object] | Mapping[str, Any] | None


class RealtimeClient(ClientSession):
    """One client of `namespace` at the server `url`. It connects at once, and again by itself where it was cut.

    `token` is text, or a function that returns a new one for each connection; `auth` joins the connect payload. With
    `recover` it asks for what it missed, as the stock JavaScript client does. Raises what refused it (an error of
    `mintflow_realtime.errors`, with its `code`), TimeoutError after `timeout` seconds.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "/",
        *,
        token: str | Callable[[], str] | None = None,
        tenant: str | None = None,
        auth: Mapping[str, Any] | None = None,
        recover: bool = False,
        transports: Sequence[str] = ("websocket",),
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        path: str = "/socket.io",
        timeout: float = 10.0,
    ) -> None:
        if not transports or not set(transports) <= {"polling", "websocket"}:
            raise ValueError(f"transports are polling, websocket or both in this order, not {transports!r}")
        super().__init__(
            partial(connect, url, path, transports, headers or {}, query or {}, STEP_SECONDS),
            namespace,
            token,
            dict(auth or {}) | ({} if tenant is None else {"tenantId": tenant}),
            recover,
        )
        self._thread.start()
        try:
            self.wait_connected(timeout)
        except BaseException:
            self.close()
            raise

    def wait_connected(self, timeout: float = 10.0) -> None:
        """Wait until it is connected. Raises what refused it, TimeoutError, or ConnectionError after `close`."""
        with self._changed:
            self._wait(lambda: self.connected, timeout, "connected")

    def call(self, command: str, *arguments: Any, timeout: float = 10.0) -> Any:
        """Send a command, wait for its ack and return its data, or what a stock namespace's handler returned.

        Waits for a connection where there is none. Raises the error of `mintflow_realtime.errors` that the server
        answered, with its `code`; TimeoutError; ConnectionError where the connection ended before the answer came.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._wait(lambda: self.connected, timeout, f"connected for {command!r}")
            self._last_id = number = self._last_id + 1
            self._answers[number] = None
            connection = self._connection
        try:
            self._send([command, *arguments], number)
            with self._changed:
                self._wait(
                    lambda: self._answers.get(number) is not None or self._connection is not connection,
                    deadline - time.monotonic(),
                    f"answered to {command!r}",
                    timeout,
                )
                answer = self._answers[number]
        finally:
            with self._changed:
                del self._answers[number]
        if answer is None:
            raise ConnectionError(f"The connection ended before {command!r} was answered: it was done, or it was not.")
        return _outcome(answer)

    def emit(self, event: str, *arguments: Any, timeout: float = 10.0) -> None:
        """Send an event without asking for an ack; waits for a connection. Raises as `call`."""
        self.wait_connected(timeout)
        self._send([event, *arguments], None)

    def events(self, name: str | None = None) -> list[Any]:
        """Return the payloads of all events `name` that have come so far; without a name (name, payload) of all."""
        with self._changed:
            if name is None:
                return [(event.name, event.payload) for event in self._events]
            return [event.payload for event in self._events if event.name == name]

    def wait_for(self, name: str, timeout: float = 10.0, matching: Matching = None) -> Any:
        """Return the payload of the first event `name` that no earlier `wait_for` returned, waiting for it.

        `matching` is a function of the payload, or fields that it must have. Raises AssertionError, which tells what
        came instead.
        """
        found: list[Event] = []

        def came() -> bool:
            found.extend(e for e in self._events if e.name == name and not e.taken and _matches(e.payload, matching))
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(lambda: came() or self._ended, max(0.0, timeout)) or not found:
                raise AssertionError(self._story(name, timeout, matching))
            found[0].taken = True
            return found[0].payload

    def lose_network(self, seconds: float) -> None:
        """Cut the connection without a word to the server, for `seconds` from now; returns at once.

        Nothing passes meanwhile, in neither direction. Then the client comes back by itself.
        """
        if not 0 < seconds <= MAX_LOST_SECONDS:
            raise ValueError(f"lose_network takes seconds above 0 and up to {MAX_LOST_SECONDS:.0f}, not {seconds!r}")
        with self._changed:
            self._network_back = time.monotonic() + seconds
            connection = self._detach()
            if connection is not None:
                self._left += connection.leave()

    def close(self) -> None:
        """Disconnect, for good. May be called again."""
        with self._changed:
            self._closing = True
            connection, connected = self._connection, self.connected
            self._changed.notify_all()
        if connection is not None:
            if connected:
                with suppress(NotConnected):
                    connection.send(str(packets.encode(packets.DISCONNECT, self.namespace)[0]))
            connection.say_goodbye()
            # So that the server has let go of it before the next test begins.
            self._thread.join(GOODBYE_SECONDS)
            connection.close()
        self._thread.join(CLOSE_SECONDS)

    def __enter__(self) -> "RealtimeClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, done: Callable[[], bool], timeout: float, what: str, told: float | None = None) -> None:
        if self._changed.wait_for(lambda: done() or self._ended, max(0.0, timeout)) and done():
            return
        if self._refused is not None:
            raise self._refused
        if self._closing:
            raise ConnectionError(f"The client of {self.namespace} is closed.")
        seconds = timeout if told is None else told
        state = "" if self.connected else f"; it is not connected: {self._fault}"
        raise TimeoutError(f"The client of {self.namespace} was not {what} within {seconds:g} s{state}.")

    def _send(self, content: list[Any], id: int | None) -> None:
        with self._changed:
            connection = self._connection
            if connection is None:
                raise ConnectionError(f"The connection ended before {content[0]!r} was sent.")
        for packet in packets.encode(packets.EVENT, self.namespace, content, id):
            connection.send(packet)

    def _story(self, name: str, timeout: float, matching: Matching) -> str:
        state = "connected" if self.connected else f"not connected: {self._refused or self._fault}"
        wanted = "" if matching is None else f" matching {matching!r}"
        shown = [f"  {e.name}{' (taken)' if e.taken else ''} {e.payload!r}"[:SHOWN_CHARACTERS] for e in self._events]
        cut = [f"  and {len(shown) - SHOWN_EVENTS} before"] if len(shown) > SHOWN_EVENTS else []
        came = "\n".join(["Came instead:", *cut, *shown[-SHOWN_EVENTS:]]) if shown else "Nothing came at all."
        return f"No {name!r}{wanted} within {timeout:g} s at the client of {self.namespace} ({state}). {came}"


def _matches(payload: Any, matching: Matching) -> bool:
    if matching is None:
        return True
    if callable(matching):
        return bool(matching(payload))
    return isinstance(payload, Mapping) and all(
        payload.get(name, matching) == value for name, value in matching.items()
    )


def _outcome(answer: list[Any]) -> Any:
    if len(answer) == 1 and isinstance(answer[0], dict) and isinstance(answer[0].get("ok"), bool):
        told = answer[0]
        if told["ok"]:
            return told.get("data")
        raise error_of(told["error"], "")
    return answer[0] if len(answer) == 1 else (answer or None)
