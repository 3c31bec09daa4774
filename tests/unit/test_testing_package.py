"""The parts of `mintflow_realtime.testing` that need no server: packets, errors, the guard's book."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mintflow_realtime.testing
from mintflow_realtime.protocol.errors import InvalidPayload, RealtimeError, Unavailable
from mintflow_realtime.testing.clients import packets
from mintflow_realtime.testing.clients.refusals import error_of
from mintflow_realtime.testing.servers import guard
from mintflow_realtime.testing.servers.processes import Port


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((packets.CONNECT, "/flows", {"token": "t"}), '40/flows,{"token":"t"}'),
        ((packets.CONNECT, "/", None), "40"),
        ((packets.DISCONNECT, "/flows", None), "41/flows,"),
        ((packets.EVENT, "/", ["a", 1], 12), '4212["a",1]'),
        ((packets.ACK, "/logs", [], 3), "43/logs,3[]"),
    ],
)
def test_packets_are_as_the_protocol_has_them(arguments: tuple[Any, ...], text: str) -> None:
    assert packets.encode(*arguments) == [text]
    kind, namespace, content, *id = arguments
    assert packets.decode(text[1:]) == (kind, namespace, id[0] if id else None, content, 0)


def test_bytes_go_behind_their_packet() -> None:
    content = ["a", {"b": b"one"}, [b"two", (1, None)]]
    text, *attachments = packets.encode(packets.EVENT, "/x", content, 7)
    places = [f'{{"_placeholder":true,"num":{number}}}' for number in (0, 1)]
    assert text == f'452-/x,7["a",{{"b":{places[0]}}},[{places[1]},[1,null]]]'
    assert attachments == [b"one", b"two"]
    read = packets.decode(str(text)[1:])
    assert read.attachments == 2
    whole = packets.with_bytes(read, [b"one", b"two"])
    assert whole == (packets.EVENT, "/x", 7, ["a", {"b": b"one"}, [b"two", [1, None]]], 0)


def test_what_is_no_packet_is_refused() -> None:
    with pytest.raises(ValueError, match="no Socket.IO packet: '9'"):
        packets.decode("9")


def test_errors_become_those_of_the_tree() -> None:
    invalid = error_of({"code": "invalid_payload", "message": "no", "retryable": False, "path": "$.a"}, "")
    assert isinstance(invalid, InvalidPayload) and invalid.details == {"path": "$.a"} and invalid.message == "no"
    away = error_of({"code": "unavailable", "message": "later", "retryable": True}, "")
    assert isinstance(away, Unavailable) and away.retryable
    own = error_of({"code": "sold_out", "message": "none left", "retryable": True}, "")
    assert type(own).__base__ is RealtimeError and (own.code, own.retryable) == ("sold_out", True)
    assert error_of({}, "Not today").message == "Not today"


def test_the_guard_ends_what_is_left_and_nothing_else(tmp_path: Path) -> None:
    kept, left = tmp_path / "kept", tmp_path / "left"
    sleeping = [
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) for _ in "ab"
    ]
    try:
        for directory in (kept, left):
            directory.mkdir()
        lines = [f"+group {process.pid}\n" for process in sleeping] + [f"-group {sleeping[0].pid}\n", "-group 1\n"]
        guard.watch([*lines, f"+directory {kept}\n", f"+directory {left}\n", f"-directory {kept}\n"])
        assert sleeping[1].wait(10) == -9 and sleeping[0].poll() is None
        assert kept.exists() and not left.exists()
    finally:
        for process in sleeping:
            process.kill()
            process.communicate()


def test_public_names_are_loaded_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    package = mintflow_realtime.testing
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Server'"):
        _ = package.Server
    monkeypatch.delattr(package, "RealtimeClient")
    for name in [name for name in sys.modules if name.startswith("mintflow_realtime.testing.clients.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wsproto", None)
    with pytest.raises(ImportError, match=r"RealtimeClient needs wsproto: pip install 'mintflow-realtime\[testing\]'"):
        _ = package.RealtimeClient


def test_a_port_is_kept_whether_somebody_listens_or_not() -> None:
    port = Port()
    try:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port.number))
            with port.listen(), socket.create_connection(("127.0.0.1", port.number)):
                pass
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.number))
    finally:
        port.close()
