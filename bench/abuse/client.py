"""A Socket.IO client that is nothing but packets, on a WebSocket of its own."""

import json
import selectors
import threading
import time
from typing import Any

import websocket


class Client:
    """One connection; `call` waits for an ack, and answers pings meanwhile."""

    def __init__(self, port: int, *namespaces: str, tenant: str = "acme") -> None:
        url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
        self.socket = websocket.create_connection(url, timeout=120, skip_utf8_validation=True)
        self.socket.recv()
        self._id = 0
        for namespace in namespaces:
            self.socket.send(f"40{namespace}," + json.dumps({"tenant": tenant}))
            while not (said := self._recv()).startswith(f"40{namespace},"):
                if said.startswith("44"):
                    raise RuntimeError(said)

    def _recv(self) -> str:
        while True:
            said = self.socket.recv()
            if said == "2":
                self.socket.send("3")
            else:
                return said if isinstance(said, str) else said.decode()

    def send(self, namespace: str, text: str) -> int:
        """Send an event whose JSON is `text`, and return the id of its ack."""
        self._id += 1
        self.socket.send(f"42{namespace},{self._id}{text}")
        return self._id

    def answer(self, namespace: str, id: int, seconds: float = 120) -> str:
        """Return in a word how an ack was answered: ok, or its error's code."""
        prefix, deadline = f"43{namespace},{id}[", time.monotonic() + seconds
        while time.monotonic() < deadline:
            said = self._recv()
            if said.startswith(prefix):
                return outcome(json.loads(said[len(prefix) - 1 :]))
        return "no answer"

    def call(self, namespace: str, text: str) -> str:
        """Send an event and return in a word how it was answered; `closed` where the connection was."""
        try:
            return self.answer(namespace, self.send(namespace, text))
        except (websocket.WebSocketException, OSError):
            return "closed"

    def close(self) -> None:
        """End the connection."""
        self.socket.close()


def outcome(arguments: list[Any]) -> str:
    """Return an ack's outcome in a word."""
    value = arguments[0] if arguments else None
    if isinstance(value, dict) and "ok" in value:
        return "ok" if value["ok"] else str(value["error"]["code"])
    return "ok"


class Resting:
    """Clients that ask for nothing any more: a thread answers their pings."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def __enter__(self) -> "Resting":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.data.close()
        self._selector.close()

    def add(self, client: Client) -> None:
        """Take a client; it is closed at the end."""
        assert client.socket.sock is not None
        self._selector.register(client.socket.sock, selectors.EVENT_READ, client)

    def __len__(self) -> int:
        return len(self._selector.get_map())

    def _answer(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                client: Client = key.data
                try:
                    if client.socket.recv() == "2":
                        client.socket.send("3")
                except (OSError, websocket.WebSocketException):
                    self._selector.unregister(key.fileobj)
