"""A stock JavaScript client that is told what to do, and a network of its own that can be cut."""

import contextlib
import json
import selectors
import shutil
import socket
import subprocess
import threading
from typing import Any

from tests.servers import ROOT, token, until


class Network:
    """A TCP relay to `port`, which may change; `cut` ends all connections, for the client alone if `half`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.up = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.own_port}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.left_open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.up:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            threading.Thread(target=_relay, args=(client, server), daemon=True).start()

    def cut(self, *, half: bool = False) -> None:
        """End all connections; with `half` the server is not told."""
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            if half:
                # The relay closes both its ends; this copy keeps the server's open. One that had ended is closed.
                with contextlib.suppress(OSError):
                    self.left_open.append(server.dup())
            else:
                _end(server)
            _end(client)

    def down(self, *, half: bool = False) -> None:
        """Cut, and let nobody in until `back`."""
        self.up = False
        self.cut(half=half)

    def back(self, port: int | None = None) -> None:
        self.port = port or self.port
        self.up = True

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for server in self.left_open:
            _end(server)
            server.close()
        self._thread.join(5)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


def _relay(client: socket.socket, server: socket.socket) -> None:
    with selectors.DefaultSelector() as selector, client, server:
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        with contextlib.suppress(OSError):
            while True:
                for key, _ in selector.select():
                    source: Any = key.fileobj
                    data = source.recv(65536)
                    if not data:
                        return
                    key.data.sendall(data)


class Comeback:
    """One stock client with `recover: true`; `lines` is what it said: [namespace, what, value, …]."""

    def __init__(self, url: str, *namespaces: str, auth: dict[str, Any] | None = None, **options: Any) -> None:
        node = shutil.which("node")
        assert node is not None, "node is missing"
        self.lines: list[list[Any]] = []
        who = {"token": token("ann"), "recover": True} if auth is None else auth
        settings = json.dumps({"auth": who, "transports": ["websocket"], **options})
        self.process = subprocess.Popen(
            [node, str(ROOT / "tests" / "js" / "comeback.mjs"), url, settings, *namespaces],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self._reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def do(self, namespace: str, *act: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([namespace, *act]) + "\n")
        self.process.stdin.flush()

    def call(self, namespace: str, *command: Any) -> Any:
        """Send a command and return its ack."""
        before = len(self.said(namespace, "ack"))
        self.do(namespace, "emit", *command)
        return until(lambda: self.said(namespace, "ack")[before:], 10, f"ack of {command}: {self.lines}")[0][0]

    def said(self, namespace: str, what: str) -> list[list[Any]]:
        """Return what followed `what` in each of its lines."""
        return [line[2:] for line in list(self.lines) if line[:2] == [namespace, what]]

    def connects(self, namespace: str) -> list[dict[str, Any]]:
        return [line[0] for line in self.said(namespace, "connect")]

    def wait(self, namespace: str, connects: int = 1, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until it has connected so many times; return what the last said."""
        until(lambda: len(self.connects(namespace)) >= connects, seconds, f"{connects} connects: {self.lines[-20:]}")
        return self.connects(namespace)[connects - 1]

    def events(self, namespace: str, *but: str) -> list[list[Any]]:
        """Return [event, arguments…], without those named."""
        return [line for line in self.said(namespace, "event") if line[0] not in but]

    def heard(self, namespace: str, event: str) -> list[Any]:
        """Return the payloads of one event."""
        return [line[1] for line in self.events(namespace) if line[0] == event]

    def wait_heard(self, namespace: str, event: str, count: int = 1, seconds: float = 10.0) -> list[Any]:
        until(lambda: len(self.heard(namespace, event)) >= count, seconds, f"{count} x {event}: {self.lines[-20:]}")
        return self.heard(namespace, event)
