"""Scenes of Engine.IO v4's heartbeat, and of connections that join nothing, on a server whose times are short."""

import json
import time
from collections.abc import Callable

from tests.conformance.wire import PATH, Polling, Received, WebSocket, close, text, unpacked

INTERVAL, TIMEOUT, CONNECT = 0.3, 0.2, 0.8
LATE = 1.0
"""What may be added by a busy machine."""
Scene = Callable[[int], None]
scenes: dict[str, Scene] = {}


def scene(run: Scene) -> Scene:
    scenes[f"Engine.IO v4 Heartbeat: {run.__name__.replace('_', ' ')}"] = run
    return run


class Silent(WebSocket):
    """Answers no pings by itself."""

    def next(self, within: float | None = None) -> Received:
        deadline = time.monotonic() + (within or self.patience)
        while (found := self._frame()) is None:
            if not self.more(deadline):
                return Received("end")
        return found


def joined(client: Silent) -> Silent:
    assert client.next().content[:1] == "0"
    client.send(text("40"))
    assert client.next().content[:2] == "40"
    return client


@scene
def the_times_are_told_in_milliseconds(port: int) -> None:
    with Polling(port) as session:
        assert (session.handshake["pingInterval"], session.handshake["pingTimeout"]) == (300, 200)


@scene
def pings_come_at_the_interval_and_pongs_keep_the_connection(port: int) -> None:
    with Silent(port) as client:
        joined(client)
        for _ in range(4):
            begun = time.monotonic()
            assert client.next() == Received("text", "2")
            waited = time.monotonic() - begun
            assert waited < INTERVAL + LATE
            client.send(text("3"))
        assert waited > INTERVAL / 2
        client.send(close(1000))
        assert client.next() == Received("close", 1000)


@scene
def without_a_pong_a_websocket_ends(port: int) -> None:
    for leaves in ("nothing", "events", "a pong of WebSocket"):
        with Silent(port) as client:
            joined(client)
            begun = time.monotonic()
            assert client.next() == Received("text", "2")
            for _ in range(3):
                if leaves == "events":
                    client.send(text('421["echo"]'))
                elif leaves != "nothing":
                    client.send(b"\x8a\x80\0\0\0\0")
            while (came := client.next()).kind == "text":
                assert came.content == "431[]"
            assert came.kind in ("close", "end")
            assert INTERVAL + TIMEOUT - 0.05 < time.monotonic() - begun < INTERVAL + TIMEOUT + LATE
            assert came.kind == "end" or client.ended()


@scene
def pings_and_pongs_while_polling(port: int) -> None:
    with Polling(port) as session:
        session.joined("/")
        for _ in range(3):
            answer = session.get()
            assert (answer.status, answer.body) == (200, b"2")
            assert session.post("3").status == 200


@scene
def without_a_pong_a_polling_session_ends(port: int) -> None:
    with Polling(port) as session:
        session.joined("/")
        begun = time.monotonic()
        assert session.get().body == b"2"
        last = session.get()
        assert INTERVAL + TIMEOUT - 0.05 < time.monotonic() - begun < INTERVAL + TIMEOUT + LATE
        if last.status == 200:
            assert unpacked(last) == []
            assert session.get().status == 400


@scene
def without_polls_a_polling_session_ends(port: int) -> None:
    with Polling(port) as session:
        session.joined("/")
        time.sleep(INTERVAL + TIMEOUT + 0.3)
        assert session.get().status == 400
        assert session.post("3").status == 400


@scene
def pongs_that_nobody_asked_for_keep_nothing(port: int) -> None:
    with Silent(port) as client:
        joined(client)
        begun = time.monotonic()
        client.send(text("3") * 5)
        while (came := client.next()).kind == "text":
            assert came.content == "2"
        assert time.monotonic() - begun < INTERVAL * 2 + TIMEOUT + LATE


@scene
def the_heartbeat_goes_on_over_an_upgrade(port: int) -> None:
    with Polling(port) as session:
        session.joined("/")
        with Silent(port, f"{PATH}websocket&sid={session.sid}") as client:
            client.send(text("2probe"))
            assert client.next() == Received("text", "3probe")
            client.send(text("5"))
            for _ in range(3):
                assert client.next() == Received("text", "2")
                client.send(text("3"))
            begun = time.monotonic()
            while (came := client.next()).kind == "text":
                assert came.content == "2"
            assert time.monotonic() - begun < INTERVAL + TIMEOUT + LATE


@scene
def who_joins_nothing_is_sent_away(port: int) -> None:
    with WebSocket(port) as client:
        begun = time.monotonic()
        assert json.loads(client.next().content[1:])["pingInterval"] == 300
        came = client.next()
        assert came.kind in ("close", "end")
        assert CONNECT - 0.05 < time.monotonic() - begun < CONNECT + LATE
        assert came.kind == "end" or client.ended()
    with Polling(port) as session:
        begun = time.monotonic()
        while session.get().status == 200:
            session.post("3")
        assert CONNECT - 0.05 < time.monotonic() - begun < CONNECT + LATE
