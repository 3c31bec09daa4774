"""A python-socketio client for tests that records what it hears and lets a test wait for it."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import engineio
import requests
import socketio

from tests.servers import until


class _InReadingOrder(engineio.Client):  # type: ignore[misc]
    """The library starts a thread for each message: on a busy machine its handlers run in another order than came.

    Then attachments pass the event that they belong to, too ("Unexpected binary attachment").
    """

    def _trigger_event(self, event: str, *args: Any, run_async: bool = False, **options: Any) -> Any:
        return super()._trigger_event(event, *args, run_async=run_async and event != "message", **options)


class InOrderClient(socketio.Client):  # type: ignore[misc]
    def _engineio_client_class(self) -> type[engineio.Client]:
        return _InReadingOrder


class Watcher:
    """One connection. `events` is what came, in order: (namespace, event, payload)."""

    def __init__(
        self,
        url: str,
        *namespaces: str,
        auth: dict[str, Any] | None = None,
        transports: list[str] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.events: list[tuple[str, str, Any]] = []
        self.errors: list[tuple[str, Any]] = []
        self.disconnected = threading.Event()
        self._http = requests.Session()
        self.client = InOrderClient(
            reconnection=options.pop("reconnection", False),
            http_session=self._http,
            websocket_extra_options={"skip_utf8_validation": True},
            **options,
        )
        for namespace in namespaces:
            self.client.on("*", self._recorder(namespace), namespace=namespace)
            self.client.on("connect_error", self._refused(namespace), namespace=namespace)
            self.client.on("disconnect", self._gone, namespace=namespace)
        self.client.connect(
            url,
            namespaces=list(namespaces),
            auth=auth or {},
            headers=headers or {},
            transports=transports or ["websocket"],
            wait_timeout=10,
        )

    def _recorder(self, namespace: str) -> Callable[..., None]:
        def record(event: str, *args: Any) -> None:
            self.events.append((namespace, event, args[0] if args else None))

        return record

    def _refused(self, namespace: str) -> Callable[..., None]:
        def record(error: Any = None) -> None:
            self.errors.append((namespace, error))

        return record

    def _gone(self, *_: Any) -> None:
        self.disconnected.set()

    def call(self, namespace: str, command: str, payload: Any = None, timeout: float = 10) -> Any:
        """Send a command with an ack and return the ack."""
        args = () if payload is None else payload
        return self.client.call(command, args, namespace=namespace, timeout=timeout)

    def send(self, namespace: str, command: str, payload: Any = None) -> None:
        """Send a command without an ack."""
        self.client.emit(command, () if payload is None else payload, namespace=namespace)

    def heard(self, event: str, namespace: str | None = None) -> list[Any]:
        """Return the payloads of an event so far."""
        return [p for n, e, p in list(self.events) if e == event and namespace in (None, n)]

    def wait(self, event: str, count: int = 1, seconds: float = 10.0) -> list[Any]:
        """Wait until an event has come `count` times; return its payloads."""
        try:
            until(lambda: len(self.heard(event)) >= count, seconds)
        except AssertionError:
            raise AssertionError(f"not within {seconds} s: {count} x {event}, got {len(self.heard(event))}") from None
        return self.heard(event)

    def cut(self) -> None:
        """End the TCP connection without a word. Closing it alone would wait until the reading thread lets go of it."""
        self.client.eio.ws.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self.client.connected:
            self.client.disconnect()
        self.client.shutdown()
        # The library leaves its sockets to the garbage collector where the server closed first.
        if self.client.eio.ws is not None:
            self.client.eio.ws.shutdown()
        self._http.close()

    stop = close
