"""Stopping and recycling under gunicorn: everybody is let go in good order and comes back, whatever they were doing."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket

from tests.ports import free_port
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, stopping
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, WebSocket, handshake, until
from tests.transport_servers import STOCK_WORKER
from tests.transport_servers import gunicorn as run_gunicorn

APPLICATION = "tests.integration.apps.draining:application"
DRAIN = 2.0


class Watched:
    """A raw WebSocket in a namespace that writes down, in a greenlet, how and when it ended."""

    def __init__(self, port: int, namespace: str = "/mine") -> None:
        self.socket = WebSocket(port)
        self.socket.read()
        self.socket.write(f"40{namespace},")
        assert self.socket.read()[1].startswith(f"40{namespace},")
        self.closed: str | None = None
        self.ended = 0.0
        self.greenlet = gevent.spawn(self._read)

    def _read(self) -> None:
        self.socket.socket.settimeout(None)
        try:
            while True:
                opcode, text = self.socket.read()
                if opcode == 8:
                    self.closed = text
                    self.socket.write("", opcode=8)
                elif text == "2":
                    self.socket.write("3")
        except (EOFError, OSError):
            self.ended = monotonic()

    def close(self) -> None:
        self.greenlet.kill()
        self.socket.close()


class Poller:
    """A raw client that polls."""

    def __init__(self, port: int) -> None:
        self.http = Http(port)
        self.target = f"{PATH}{POLLING}&sid={handshake(self.http.get(PATH + POLLING))['sid']}"
        assert self.http.post(self.target, "40/mine,").status == 200
        assert self.http.get(self.target).body.startswith(b"40/mine,")
        self.http.socket.settimeout(30)
        self.http.send("GET", self.target)

    def close(self) -> None:
        self.http.close()


@contextlib.contextmanager
def serving(redis: PrivateRedis, left: Path, workers: int = 1, **env: str) -> Iterator[Node]:
    """Run the app with this project's configuration; nothing of a fault may be written."""
    env = {"DRAIN_SECONDS": str(DRAIN), "LEFT": str(left), "SOCKET_RATE_LIMIT": "0", **env}
    prefix = f"drain{free_port()}"
    node = Node(workers=workers, application=APPLICATION, REDIS_URL=redis.url, REDIS_PREFIX=prefix, **env)
    with stopping(node):
        node.wait_ready()
        until(lambda: len(node.workers()) == workers, 20)
        yield node
        written = node.text()
    for fault in ("Traceback", "SIGKILL", "exited with code", "was sent SIG", "graceful timeout", '"level": "error"'):
        assert fault not in written, written[-3000:]


def reasons(left: Path) -> list[str]:
    return left.read_text().split("\n")[:-1] if left.exists() else []


def exit_code(node: Node, seconds: float) -> int | None:
    until(lambda: node.process.poll() is not None, seconds)
    return node.process.poll()


def test_a_stop_lets_go_of_everybody_in_good_order(shared_redis: PrivateRedis, tmp_path: Path) -> None:
    left = tmp_path / "left"
    with serving(shared_redis, left) as node:
        clients = [Watched(node.port) for _ in range(30)]
        pollers = [Poller(node.port) for _ in range(6)]
        kept = [Http(node.port) for _ in range(4)]
        try:
            assert all(http.get("/readyz").status == 200 for http in kept)
            with Http(node.port) as busy, Http(node.port) as silent:
                busy.send("GET", "/slow/1.5")
                silent.socket.sendall(b"GET /readyz HT")
                gevent.sleep(0.2)
                began = monotonic()
                node.process.send_signal(signal.SIGTERM)
                gevent.sleep(0.6)
                # What is kept alive is answered, and told that it was the last time.
                health = kept[0].get("/readyz")
                assert (health.status, health.json["reasons"]) == (503, ["draining"])
                assert health.headers["connection"] == "close" and kept[0].at_end()
                for http, target, headers in (
                    (kept[1], PATH + POLLING, {}),
                    (kept[2], PATH + WEBSOCKET, UPGRADE),
                ):
                    refused = http.get(target, **headers)
                    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
                    assert refused.headers["connection"] == "close"
                with pytest.raises(ConnectionRefusedError):
                    Http(node.port)
                assert sum(client.closed is not None for client in clients) < len(clients), "not all at once"
                assert busy.response().body == b"done"
                assert silent.at_end(10) and kept[3].at_end(10)
            assert exit_code(node, 14) == 0
            took = monotonic() - began
            assert DRAIN * 0.9 < took < DRAIN + 4
            gevent.joinall([client.greenlet for client in clients], timeout=3)
            assert {client.closed for client in clients} == {"1001"}
            times = sorted(client.ended for client in clients)
            assert times[-1] - times[0] > DRAIN * 0.6
            assert max(later - earlier for earlier, later in pairwise(times)) < DRAIN / 2, "evenly"
            # A poll ends with a NOOP, and the client comes back by its next.
            assert [poller.http.response().body for poller in pollers] == [b"6"] * 6
            assert reasons(left) == ["transport close"] * 36
        finally:
            for one in (*clients, *pollers, *kept):
                one.close()


def test_a_client_that_reads_nothing_and_one_that_sends_do_not_hold_it_up(
    shared_redis: PrivateRedis, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    with serving(shared_redis, left, DRAIN_SECONDS="0") as node:
        with WebSocket(node.port) as stalled, WebSocket(node.port) as busy:
            for client in (stalled, busy):
                client.read()
                client.write("40/mine,")
            began = monotonic()
            node.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(OSError):
                for _ in range(200):
                    busy.write('42/mine,["nothing"]')
                    gevent.sleep(0.01)
            assert exit_code(node, 10) == 0 and monotonic() - began < 6
        assert reasons(left) == ["transport close"] * 2


class Stock:
    """The stock JavaScript client, which reconnects as it likes; `said` are the lines of what happened to it."""

    def __init__(self, url: str, transports: str) -> None:
        options = json.dumps({"transports": transports.split(","), "reconnectionDelay": 100})
        self.process = subprocess.Popen(
            ["node", "tests/js/comeback.mjs", url, options, "/mine"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._rest = b""
        self.said: list[list[Any]] = []

    def heard(self, what: str) -> list[Any]:
        """Return what was said of one kind so far."""
        assert self.process.stdout is not None
        self._rest += self.process.stdout.read() or b""
        *lines, self._rest = self._rest.split(b"\n")
        self.said += [json.loads(line) for line in lines]
        return [line[2] for line in self.said if line[1] == what]

    def pid(self) -> int:
        """Ask which worker it is with; it has to be connected."""
        before = len(self.heard("ack"))
        assert self.process.stdin is not None
        self.process.stdin.write(b'["/mine","emit","pid"]\n')
        self.process.stdin.flush()
        until(lambda: len(self.heard("ack")) > before, 10)
        return int(self.heard("ack")[-1])

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(5)
        self.process.stdout.close()


@contextlib.contextmanager
def stock_clients(node: Node) -> Iterator[list[Stock]]:
    clients = [Stock(node.url, transports) for transports in ("websocket", "polling", "polling,websocket") * 2]
    try:
        until(lambda: all(client.heard("connect") for client in clients), 30)
        yield clients
    finally:
        for client in clients:
            client.close()


def came_back(clients: list[Stock], gone: set[int]) -> None:
    """See that those whose worker went came back to another, once, with the reasons that they know."""
    for client, transports in zip(clients, ("websocket", "polling", "polling,websocket") * 2, strict=True):
        lost = client.heard("disconnect")
        # Over polling a server can't say so: its client finds that the session is gone.
        assert set(lost) <= {"transport error" if transports == "polling" else "transport close"}, client.said
        assert client.pid() not in gone


def test_a_reload_moves_everybody_to_new_workers(shared_redis: PrivateRedis, tmp_path: Path) -> None:
    left = tmp_path / "left"
    with serving(shared_redis, left, workers=2) as node, stock_clients(node) as clients:
        gevent.sleep(0.3)
        old = set(node.workers())
        began = monotonic()
        node.process.send_signal(signal.SIGHUP)
        until(lambda: all(len(client.heard("connect")) >= 2 for client in clients), 30)
        until(lambda: not old & set(node.workers()), 20)
        assert monotonic() - began < 20
        came_back(clients, old)
        assert all(len(client.heard("disconnect")) == 1 for client in clients), "once, and to a new one"
        assert len(node.workers()) == 2 and reasons(left).count("transport close") >= 6


def test_a_worker_is_recycled_in_the_same_way(shared_redis: PrivateRedis, tmp_path: Path) -> None:
    left = tmp_path / "left"
    limits = "--max-requests 60 --max-requests-jitter 0"
    with serving(shared_redis, left, workers=2, GUNICORN_CMD_ARGS=limits) as node, stock_clients(node) as clients:
        gevent.sleep(0.3)
        first = clients[0]
        worker = first.pid()
        # Every request is counted where it is answered; a connection stays with its worker.
        with contextlib.ExitStack() as stack:
            while True:
                http = stack.enter_context(Http(node.port))
                if http.get("/pid").body == str(worker).encode():
                    break
            with contextlib.suppress(EOFError, OSError):
                for _ in range(60):
                    http.get("/pid")
        until(lambda: worker not in node.workers(), 20)
        until(lambda: len(first.heard("connect")) >= 2, 20)
        assert first.heard("disconnect")[0] == "transport close"
        assert first.pid() != worker
        until(lambda: len(node.workers()) == 2, 20)
        assert "Recycling after 60 requests and connections" in node.text()
        for client in clients:
            assert client.pid() != worker


@pytest.mark.parametrize("to_the_worker", [True, False])
def test_a_second_signal_ends_a_drain_at_once(to_the_worker: bool, shared_redis: PrivateRedis, tmp_path: Path) -> None:
    left = tmp_path / "left"
    with serving(shared_redis, left, DRAIN_SECONDS="60") as node:
        clients = [Watched(node.port) for _ in range(10)]
        try:
            (worker,) = node.workers()
            node.process.send_signal(signal.SIGTERM)
            until(lambda: any(client.closed for client in clients), 5)
            began = monotonic()
            os.kill(worker if to_the_worker else node.process.pid, signal.SIGQUIT)
            assert exit_code(node, 5) == 0
            assert monotonic() - began < 3
            gevent.joinall([client.greenlet for client in clients], timeout=3)
            assert all(client.ended for client in clients)
        finally:
            for client in clients:
                client.close()


@contextlib.contextmanager
def stock_server(left: Path, *arguments: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """Run the library's own server with geventwebsocket's worker, as its documents say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = run_gunicorn(
            listener,
            "--worker-class",
            STOCK_WORKER,
            "--graceful-timeout",
            "2",
            *arguments,
            application=APPLICATION,
            STOCK="1",
            LEFT=str(left),
            PYTHONPATH=str(ROOT),
        )
        listener.close()
        try:
            yield port, process
        finally:
            process.kill()
            process.communicate()


def answering(port: int) -> bool:
    with contextlib.suppress(OSError, EOFError), Http(port) as http:
        return http.get("/pid").status == 200
    return False


def test_a_stock_worker_says_nothing_and_is_cut(tmp_path: Path) -> None:
    """Row 38."""
    left = tmp_path / "left"
    with stock_server(left) as (port, process):
        until(lambda: answering(port), 30)
        client = Watched(port)
        try:
            began = monotonic()
            process.send_signal(signal.SIGTERM)
            until(lambda: process.poll() is not None, 15)
            client.greenlet.join(3)
            assert client.ended - began > 1.8, "not before the time that it is given is over"
            assert client.closed is None and reasons(left) == []
        finally:
            client.close()


def test_a_stock_worker_ignores_its_limit(tmp_path: Path) -> None:
    """Row 39."""
    with stock_server(tmp_path / "left", "--max-requests", "5") as (port, _):
        until(lambda: answering(port), 30)
        pids = set()
        # A worker notices within a second that it is to stop.
        for _ in range(25):
            with Http(port) as http:
                pids.add(http.get("/pid").body)
            gevent.sleep(0.1)
        assert len(pids) == 1
