"""Scenes of Engine.IO v4 that need several connections of one session: polls, closing, the upgrade."""

import json
import time
from collections.abc import Callable
from typing import Any

from tests.conformance.engine_io import BAD_REQUEST
from tests.conformance.runner import Server
from tests.conformance.wire import (
    BINARY,
    PATH,
    TEXT,
    Frame,
    Peer,
    Polling,
    Received,
    WebSocket,
    close,
    normal,
    payload,
    text,
    unpacked,
    upgrade_head,
)

Scene = Callable[[Server], None]
scenes: dict[str, Scene] = {}


def scene(section: str) -> Callable[[Scene], Scene]:
    def keep(run: Scene) -> Scene:
        scenes[f"Engine.IO v4 {section}: {run.__name__.replace('_', ' ')}"] = run
        return run

    return keep


def upgrading(server: Server, session: Polling) -> WebSocket:
    return WebSocket(server.port, f"{PATH}websocket&sid={session.sid}")


def echoes(session: Polling, *numbers: int) -> None:
    """Check that polling works: events are acked, each once."""
    assert session.post(*[f'42{number}["echo",{number}]' for number in numbers]).status == 200
    seen: list[Any] = []
    while len(seen) < len(numbers):
        seen += [normal(one.content) for one in session.poll()]
    assert sorted(seen) == sorted((3, 0, "/", number, [number]) for number in numbers), seen


def is_gone(session: Polling) -> None:
    assert session.get().status == 400


def is_opened_and_closed(peer: Peer) -> None:
    """Expect what Node's does with one WebSocket too many: 101, and a close frame."""
    assert peer.response().status == 101
    while len(peer.buffer) < 4:
        assert peer.more(time.monotonic() + peer.patience), "the close frame comes first"
    assert peer.buffer == b"\x88\x02\x03\xe8"
    peer.buffer = peer.buffer[4:]
    peer.send(close(1000))
    assert peer.at_end()


@scene("Handshake")
def polling_tells_all(server: Server) -> None:
    with Polling(server.port) as session:
        opened = session.handshake
        assert set(opened) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        assert (opened["upgrades"], opened["pingInterval"], opened["pingTimeout"]) == (["websocket"], 25000, 20000)
        assert isinstance(opened["sid"], str)


@scene("Handshake")
def a_websocket_tells_all(server: Server) -> None:
    with WebSocket(server.port) as client:
        opened = json.loads(client.next().content[1:])
        assert set(opened) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
        assert (opened["upgrades"], opened["pingInterval"], opened["pingTimeout"]) == ([], 25000, 20000)


@scene("Handshake")
def frames_right_behind_the_handshake_are_read(server: Server) -> None:
    head = upgrade_head(PATH + "websocket")
    for cut in (len(head), len(head) + 1, len(head) + 7, len(head) - 2, 10):
        with Peer(server.port) as peer:
            everything = head + text("40") + text('427["echo"]')
            peer.send(everything[:cut])
            server.serves()
            peer.send(everything[cut:])
            assert peer.response().status == 101
            client = WebSocket.__new__(WebSocket)
            client.__dict__ = peer.__dict__
            assert client.next().content[:1] == "0"
            assert normal(client.next().content)[0] == 0
            assert client.next() == Received("text", "437[]")


@scene("Receiving data")
def a_second_poll_ends_the_session(server: Server) -> None:
    with Polling(server.port) as session, Peer(server.port) as other:
        session.joined("/")
        session.gets.request("GET", session.target)
        server.serves()
        assert other.ask("GET", session.target).status == 400
        first = session.gets.response()
        assert (first.status, first.body) == (200, b"1")
        is_gone(session)


@scene("Sending data")
def a_second_post_ends_the_session(server: Server) -> None:
    with Polling(server.port) as session, Peer(server.port) as other:
        session.joined("/")
        body = payload('427["echo"]')
        head = f"POST {session.target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        session.posts.send(head + body[:3])
        server.serves()
        assert other.ask("POST", session.target, b"3").status == 400
        is_gone(session)


@scene("Receiving data")
def a_cancelled_poll_ends_the_session(server: Server) -> None:
    for how in ("close", "reset"):
        with Polling(server.port) as session, Peer(server.port) as other:
            session.joined("/")
            session.gets.request("GET", session.target)
            server.serves()
            getattr(session.gets, how)()
            server.serves()
            assert other.ask("GET", session.target).status == 400


@scene("Protocol, close")
def close_ends_a_waiting_poll(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        session.gets.request("GET", session.target)
        server.serves()
        assert session.post("1").status == 200
        answer = session.gets.response()
        assert (answer.status, answer.body) == (200, b"6")
        is_gone(session)
        assert session.post("3").status == 400


@scene("Message")
def a_waiting_poll_is_answered_by_what_comes(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        for number in range(3):
            session.gets.request("GET", session.target)
            server.serves()
            assert session.post(f'42{number}["echo"]').body == b"ok"
            assert session.gets.response().body == b"43%d[]" % number


@scene("WebSocket")
def a_session_of_a_websocket_takes_no_other_transport(server: Server) -> None:
    with WebSocket(server.port) as client, Peer(server.port) as other, Peer(server.port) as third:
        sid = json.loads(client.next().content[1:])["sid"]
        client.send(text("40"))
        client.next()
        for method in ("GET", "POST"):
            refused = other.ask(method, f"{PATH}polling&sid={sid}", b"3" if method == "POST" else None)
            assert (refused.status, refused.code) == (400, BAD_REQUEST)
        third.send(upgrade_head(f"{PATH}websocket&sid={sid}"))
        is_opened_and_closed(third)
        assert client.ask("still") == ["still"]


@scene("Upgrade")
def a_session_moves(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        session.gets.request("GET", session.target)
        server.serves()
        with upgrading(server, session) as client, Peer(server.port) as late:
            client.send(text("2probe"))
            assert client.next() == Received("text", "3probe")
            assert session.gets.response().body == b"6"
            client.send(text("5"))
            assert client.ask("moved") == ["moved"]
            refused = session.get()
            assert (refused.status, refused.code) == (400, BAD_REQUEST)
            assert session.post("3").status == 400
            late.send(upgrade_head(f"{PATH}websocket&sid={session.sid}"))
            is_opened_and_closed(late)
            assert client.ask("still") == ["still"]
            client.send(text("1"))
            assert client.next().kind == "close" and client.ended()
        assert session.gets.ask("GET", session.target).status == 400


@scene("Upgrade")
def a_poll_after_the_probe_is_answered_soon(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        with upgrading(server, session) as client:
            client.send(text("2probe"))
            assert client.next() == Received("text", "3probe")
            assert session.get().body == b"6"
            client.send(text("5"))
            assert client.ask("moved") == ["moved"]


@scene("Upgrade")
def frames_of_the_upgrade_in_one_segment(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        with upgrading(server, session) as client:
            client.send(text("2probe") + text("5") + text('427["echo"]'))
            assert client.next() == Received("text", "3probe")
            assert client.next() == Received("text", "437[]")
            assert session.get().status == 400


@scene("Upgrade")
def nothing_is_lost_or_doubled_on_the_way(server: Server) -> None:
    """Acks of events from before, within and after the probe come once each, on one transport or the other."""
    for waiting in (True, False):
        with Polling(server.port) as session:
            session.joined("/")
            came: list[Received] = []
            assert session.post('421["echo"]', '422["echo"]').status == 200
            came += session.poll()
            if waiting:
                while len(came) < 2:
                    came += session.poll()
                session.gets.request("GET", session.target)
                server.serves()
            with upgrading(server, session) as client:
                assert session.post('423["echo"]').status == 200
                client.send(text("2probe"))
                assert client.next() == Received("text", "3probe")
                assert session.post('424["echo"]', '425["echo"]').status == 200
                if waiting:
                    came += unpacked(session.gets.response())
                client.send(text("5") + text('426["echo"]'))
                while len(came) < 6:
                    came.append(client.next())
                assert client.ask("last") == ["last"]
            assert sorted(one.content for one in came) == [f"43{number}[]" for number in range(1, 7)]


WRONG = {
    "nothing": [],
    "a ping without probe": [text("2")],
    "half a probe": [text("2prob")],
    "a pong": [text("3probe")],
    "the end without a probe": [text("5")],
    "a message": [text("4hello")],
    "garbage": [text("x")],
    "an empty text": [text("")],
    "bytes": [bytes(Frame(BINARY, b"2probe"))],
    "an unmasked probe": [bytes(Frame(TEXT, b"2probe", masked=False))],
    "too much": [bytes(Frame(TEXT, b"", declared=1 << 40))],
    "no UTF-8": [text(b"2\xff")],
    "a close frame": [close(1000)],
    "half a frame": [text("2probe")[:5]],
}
AFTER_PROBE = {
    "nothing": [],
    "a message": [text("4hello")],
    "garbage": [text("x")],
    "bytes": [bytes(Frame(BINARY, b"5"))],
    "an unmasked end": [bytes(Frame(TEXT, b"5", masked=False))],
    "a close packet": [text("1")],
    "a close frame": [close(1001)],
    "half a frame": [text("5")[:3]],
}


def _wrong_probe(parts: list[bytes], answered: bool, leaving: str) -> Scene:
    def run(server: Server) -> None:
        with Polling(server.port) as session:
            session.joined("/")
            with upgrading(server, session) as client:
                if answered:
                    client.send(text("2probe"))
                    assert client.next() == Received("text", "3probe")
                for part in parts:
                    client.send(part)
                server.serves()
                getattr(client, leaving)()
            server.serves()
            # 409 or 503 would do as well as an answer, waiting would not.
            echoes(session, 1, 2, 3)
            echoes(session, 4)
            with upgrading(server, session) as again:
                again.send(text("2probe"))
                assert again.next() == Received("text", "3probe")
                again.send(text("5"))
                assert again.ask("moved") == ["moved"]

    return run


for _name, _parts in WRONG.items():
    for _leaving in ("close", "reset"):
        _scene = _wrong_probe(_parts, False, _leaving)
        scenes[f"Engine.IO v4 Upgrade: the probe is {_name}, then {_leaving}"] = _scene
for _name, _parts in AFTER_PROBE.items():
    for _leaving in ("close", "reset"):
        _scene = _wrong_probe(_parts, True, _leaving)
        scenes[f"Engine.IO v4 Upgrade: after the probe comes {_name}, then {_leaving}"] = _scene


@scene("Upgrade")
def a_wrong_probe_ends_its_websocket(server: Server) -> None:
    for name, parts in WRONG.items():
        if name in ("nothing", "half a frame"):
            continue
        with Polling(server.port) as session:
            session.joined("/")
            with upgrading(server, session) as client:
                client.send(b"".join(parts))
                assert client.ends(), name
            echoes(session, 1)


@scene("Upgrade")
def polling_goes_on_beside_a_probe_that_says_nothing(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        with upgrading(server, session):
            echoes(session, 1, 2)
            echoes(session, 3)
        echoes(session, 4)


@scene("Upgrade")
def a_second_websocket_is_refused_while_the_first_probes(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        with upgrading(server, session) as client, Peer(server.port) as second:
            client.send(text("2probe"))
            assert client.next() == Received("text", "3probe")
            second.send(upgrade_head(f"{PATH}websocket&sid={session.sid}"))
            is_opened_and_closed(second)
            client.send(text("5"))
            assert client.ask("moved") == ["moved"]


@scene("Upgrade")
def a_session_that_is_closed_takes_its_probe_along(server: Server) -> None:
    with Polling(server.port) as session:
        session.joined("/")
        with upgrading(server, session) as client:
            client.send(text("2probe"))
            assert client.next() == Received("text", "3probe")
            assert session.post("1").status == 200
            assert client.ends()
        is_gone(session)
