"""Connections that move from one worker to another: which ones, with what, and what happens when the other is gone."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.queue import Queue

from mintflow_realtime.transport.engine_io.session_id import TAG_PATTERN, make_node_tag
from mintflow_realtime.transport.worker import affinity
from mintflow_realtime.transport.worker.affinity import Receiver, remove_stale, send, session_tag
from tests.transport_client import PATH, POLLING, UPGRADE, WEBSOCKET, Http, handshake, serving, serving_stock, until

SID = "0123abcd" + "x" * 20


def is_path(path: str) -> bool:
    return path.rstrip("/") == "/socket.io"


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        (f"/socket.io/?EIO=4&sid={SID}", "0123abcd"),
        (f"/socket.io?sid={SID}&t=1", "0123abcd"),
        (f"/socket%2Eio/?sid={SID}", "0123abcd"),
        (f"/socket.io/?t={'x' * 9000}&sid={SID}", "0123abcd"),
        (f"/other/?sid={SID}", None),
        (f"/socket.io/more?sid={SID}", None),
        ("/socket.io/?EIO=4", None),
        (f"/socket.io/?sid={SID}x", None),
        (f"/socket.io/?sid={SID.upper()}", None),
        ("/socket.io/?sid=../../../../etc/x", None),
        ("*", None),
    ],
)
def test_a_target_names_the_worker_of_its_session(target: str, tag: str | None) -> None:
    assert session_tag(target, is_path) == tag


class Taken:
    def __init__(self) -> None:
        self.connections: list[tuple[Any, Any, bytes]] = []

    def __call__(self, descriptor: int, address: Any, read: bytes) -> None:
        self.connections.append((socket.socket(fileno=descriptor), address, read))


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Taken]:
    taken = Taken()
    receiver = Receiver(str(tmp_path), "0123abcd", taken)
    yield taken
    receiver.close()
    for sock, _, _ in taken.connections:
        sock.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", [("127.0.0.1", 4711), ("::1", 4711, 0, 0), "", b""])
@pytest.mark.parametrize("read", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff" * 24_000, b""])
def test_a_connection_moves_with_its_address_and_bytes(tmp_path: Path, taken: Taken, address: Any, read: bytes) -> None:
    near, far = socket.socketpair()
    assert send(str(tmp_path), "0123abcd", near.fileno(), address, read)
    near.close()
    until(lambda: taken.connections)
    moved, moved_address, moved_read = taken.connections[0]
    assert (moved_address, moved_read) == (address or "", read)
    far.sendall(b"still open")
    assert moved.recv(100) == b"still open"
    far.close()


def test_the_socket_is_for_its_owner_only(tmp_path: Path, taken: Taken) -> None:
    assert stat.S_IMODE((tmp_path / "0123abcd.sock").stat().st_mode) == 0o600
    inner = tmp_path / "made"
    Receiver(str(inner), "0123abcd", taken).close()
    assert stat.S_IMODE(inner.stat().st_mode) == 0o700
    inner.rmdir()


def test_another_users_process_is_not_believed(tmp_path: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = socket.socketpair()
    monkeypatch.setattr(affinity.os, "geteuid", lambda: os.getuid() + 1)
    assert not send(str(tmp_path), "0123abcd", near.fileno(), "", b"")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(tmp_path / "0123abcd.sock"))
        socket_module = __import__("socket")
        socket_module.send_fds(peer, [b'\0\2""hello'], [near.fileno()])
        assert peer.recv(1) == b""
    assert taken.connections == []
    near.close()
    far.close()


def test_messages_that_are_not_connections_are_dropped(tmp_path: Path, taken: Taken) -> None:
    for message in (b"", b"\0", b'\0\2""no descriptor'):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(tmp_path / "0123abcd.sock"))
            if message:
                peer.sendall(message)
                assert peer.recv(1) == b""
    assert taken.connections == []


def test_a_worker_that_is_gone_is_noticed_and_its_socket_removed(tmp_path: Path) -> None:
    assert not send(str(tmp_path), "00000000", 0, "", b"")
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for tag in ("00000000", "00000001"):
        dead.bind(str(tmp_path / f"{tag}.sock"))
        dead.close()
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.close()
    assert not send(str(tmp_path), "00000000", 0, "", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["00000001.sock"]
    remove_stale(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_sockets_of_live_workers_are_not_removed(tmp_path: Path, taken: Taken) -> None:
    remove_stale(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["0123abcd.sock"]


def test_a_worker_that_does_not_accept_is_busy_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "SEND_SECONDS", 0.05)
    near, far = socket.socketpair()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stuck:
        stuck.bind(str(tmp_path / "0123abcd.sock"))
        stuck.listen(0)
        assert send(str(tmp_path), "0123abcd", near.fileno(), "", b"")
        with pytest.raises(affinity.WorkerBusy):
            send(str(tmp_path), "0123abcd", near.fileno(), "", b"")
    near.close()
    far.close()


def test_a_directory_whose_path_is_too_long_for_sockets_is_as_good(tmp_path: Path) -> None:
    directory, taken = str(tmp_path / ("x" * 120)), Queue()
    receiver = Receiver(directory, "0123abcd", lambda descriptor, address, read: taken.put((descriptor, address, read)))
    near, far = socket.socketpair()
    try:
        affinity.remove_stale(directory)
        assert os.listdir(directory) == ["0123abcd.sock"], "it lives"
        assert send(directory, "0123abcd", near.fileno(), ("192.0.2.1", 80), b"read")
        descriptor, address, read = taken.get(timeout=5)
        os.close(descriptor)
        assert (address, read) == (("192.0.2.1", 80), b"read")
    finally:
        near.close()
        far.close()
        receiver.close()
    assert os.listdir(directory) == []
    assert not send(directory, "0123abcd", 0, "", b"") and not send(directory + "x", "0123abcd", 0, "", b"")


def test_each_request_of_a_kept_alive_connection_reaches_its_own_worker(tmp_path: Path) -> None:
    directory = str(tmp_path)
    with serving(directory) as one, serving(directory) as two, Http(one.port) as http:
        first, second = one.polling_session(), two.polling_session()
        for round_number in range(3):
            for node, sid in ((one, first), (two, second)):
                text = f"{round_number} to {sid}"
                assert http.post(f"{PATH}{POLLING}&sid={sid}", "4" + text).status == 200
                assert node.named("message")[-1] == text
        assert two.server.pool.size - two.server.pool.free_count() == 1
        assert [sid for name, sid, _ in one.events if name == "message"] == [first] * 3


def test_pipelined_requests_and_split_bodies_move_along(tmp_path: Path) -> None:
    directory = str(tmp_path)
    with serving(directory) as one, serving(directory) as two, Http(one.port) as http:
        first, second = one.polling_session(), two.polling_session()
        http.send("POST", f"{PATH}{POLLING}&sid={second}", "4a")
        http.send("POST", f"{PATH}{POLLING}&sid={first}", "4b")
        http.socket.sendall(
            f"POST {PATH}{POLLING}&sid={second} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n4sp".encode()
        )
        assert [http.response().status for _ in range(2)] == [200, 200]
        http.socket.sendall(b"lit")
        assert http.response().status == 200
        assert (one.named("message"), two.named("message")) == (["b"], ["a", "split"])


def test_an_upgrade_moves_and_knows_the_clients_address(tmp_path: Path) -> None:
    directory = str(tmp_path)
    with serving(directory) as one, serving(directory) as two, Http(one.port) as http:
        sid = two.polling_session()
        assert http.get(f"{PATH}{WEBSOCKET}&sid={sid}", **UPGRADE).status == 101
        assert two.engine.sockets[sid].upgrading and not one.engine.sockets
        # A WebSocket holds no greenlet on either side.
        assert len(two.server.pool) == 0 and until(lambda: len(one.server.pool) == 0) is True
        with Http(one.port) as other:
            fresh = handshake(other.get(PATH + POLLING))["sid"]
            assert fresh.startswith(one.engine.node_tag)
        assert one.named("connect") == ["127.0.0.1"]


def test_a_session_whose_worker_is_gone_is_unknown_at_once(tmp_path: Path) -> None:
    with serving(str(tmp_path)) as one:
        with serving(str(tmp_path)) as two:
            sid = two.polling_session()
        with Http(one.port) as http, gevent.Timeout(1):
            refused = http.get(f"{PATH}{POLLING}&sid={sid}")
            assert (refused.status, refused.json) == (400, {"code": 1, "message": "Session ID unknown"})


def test_a_full_worker_closes_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mintflow_realtime.transport.http.server.ROOM_SECONDS", 0.05)
    directory = str(tmp_path)
    with serving(directory) as one, serving(directory, pool=1) as two, Http(two.port) as only:
        sid = handshake(only.get(PATH + POLLING))["sid"]
        # A connection that only waits would give way.
        only.send("GET", f"{PATH}{POLLING}&sid={sid}")
        until(lambda: two.engine.sockets[sid].polling.waiting)
        with Http(one.port) as http:
            http.send("GET", f"{PATH}{POLLING}&sid={sid}")
            assert http.at_end()


def test_stock_workers_do_not_know_each_others_sessions() -> None:
    with serving_stock() as one, serving_stock() as two:
        with Http(two.port) as http:
            sid = handshake(http.get(PATH + POLLING))["sid"]
        with Http(one.port) as http:
            assert http.post(f"{PATH}{POLLING}&sid={sid}", "4a").status == 400


def test_a_node_s_tag_begins_with_its_host_s_number_where_it_has_one() -> None:
    """deploy/nginx/mintflow.conf routes by these two digits."""
    for host, digits in ((0, "00"), (1, "01"), (10, "0a"), (255, "ff")):
        tags = {make_node_tag(host) for _ in range(20)}
        assert len(tags) == 20 and {tag[:2] for tag in tags} == {digits}
        assert all(re.fullmatch(TAG_PATTERN, tag) for tag in tags)
    assert len({make_node_tag()[:2] for _ in range(100)}) > 10
