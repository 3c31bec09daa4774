"""Ways in which a client goes away without a word, each at a moment of its own."""

import contextlib
import itertools
from collections.abc import Callable

from tests.conformance.wire import (
    BINARY,
    PATH,
    TEXT,
    Frame,
    Peer,
    WebSocket,
    close,
    normal,
    text,
    upgrade_head,
)

End = Callable[[int], None]
ends: dict[str, End] = {}
ROOM = text('421["room","abrupt"]')


def end(run: End) -> End:
    ends[run.__name__.replace("_", " ")] = run
    return run


class Joined:
    """A WebSocket in `/` and in a room. It ends as `how` says."""

    def __init__(self, port: int, how: str) -> None:
        self.port, self.how = port, how

    def __enter__(self) -> WebSocket:
        self.client = WebSocket(self.port).joined("/")
        self.client.send(ROOM)
        assert self.client.next().content == "431[]"
        return self.client

    def __exit__(self, *_: object) -> None:
        leave(self.client, self.how)


def leave(peer: Peer, how: str) -> None:
    """End the connection by FIN, by RST, or by FIN of our direction alone and reading on until the server's."""
    if how == "half":
        peer.finish()
        assert peer.at_end()
    peer.reset() if how == "reset" else peer.close()


HOW = ("close", "reset", "half")


def each_how(name: str, run: Callable[[int, str], None]) -> None:
    for how in HOW:
        ends[f"{name}, {how}"] = lambda port, how=how: run(port, how)  # type: ignore[misc]


def _before_anything(port: int, how: str) -> None:
    leave(Peer(port), how)


def _in_the_head(port: int, how: str) -> None:
    peer = Peer(port)
    peer.send(upgrade_head(PATH + "websocket")[:70])
    leave(peer, how)


def _before_the_101(port: int, how: str) -> None:
    peer = Peer(port)
    peer.send(upgrade_head(PATH + "websocket"))
    leave(peer, how)


def _after_the_101(port: int, how: str) -> None:
    leave(WebSocket(port), how)


def _joining(port: int, how: str) -> None:
    client = WebSocket(port)
    client.send(text("40") + text("40/chat,"))
    leave(client, how)


def _joined(port: int, how: str) -> None:
    with Joined(port, how):
        pass


def _with(content: bytes) -> Callable[[int, str], None]:
    def run(port: int, how: str) -> None:
        with Joined(port, how) as client:
            client.send(content)

    return run


def _closing(port: int, how: str) -> None:
    with Joined(port, how) as client:
        client.send(close(1001))
        assert client.next().kind == "close"


def _poll(port: int) -> tuple[Peer, str]:
    peer = Peer(port)
    opened = peer.ask("GET", PATH + "polling")
    sid = opened.body.decode().split('"sid":"')[1].split('"')[0]
    return peer, f"sid={sid}"


def _join_polling(peer: Peer, sid: str) -> str:
    target = f"{PATH}polling&{sid}"
    assert peer.ask("POST", target, b"40").status == 200
    assert normal(peer.ask("GET", target).body.decode())[0] == 0
    return target


def _begun_polling(port: int, how: str) -> None:
    leave(_poll(port)[0], how)


def _joined_polling(port: int, how: str) -> None:
    peer, sid = _poll(port)
    _join_polling(peer, sid)
    leave(peer, how)


def _in_a_poll(port: int, how: str) -> None:
    peer, sid = _poll(port)
    peer.request("GET", _join_polling(peer, sid))
    leave(peer, how)


def _in_a_post(port: int, how: str) -> None:
    peer, sid = _poll(port)
    target = _join_polling(peer, sid)
    peer.send(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n42[".encode())
    leave(peer, how)


def _in_two_polls(port: int, how: str) -> None:
    peer, sid = _poll(port)
    target = _join_polling(peer, sid)
    peer.request("GET", target)
    with Peer(port) as other:
        other.request("GET", target)
        with contextlib.suppress(EOFError):
            other.response()
    leave(peer, how)


def _upgrading(stage: int) -> Callable[[int, str], None]:
    def run(port: int, how: str) -> None:
        peer, sid = _poll(port)
        _join_polling(peer, sid)
        client = WebSocket(port, f"{PATH}websocket&{sid}")
        if stage > 0:
            client.send(text("2probe"))
            assert client.next().content == "3probe"
        if stage > 1:
            client.send(text("5"))
        if stage > 2:
            assert client.ask("moved") == ["moved"]
        leave(client, how)
        leave(peer, "close")

    return run


for _name, _run in {
    "before anything": _before_anything,
    "in the head": _in_the_head,
    "before the 101": _before_the_101,
    "after the 101": _after_the_101,
    "joining": _joining,
    "joined": _joined,
    "an event under way": _with(text('427["echo","x"]') * 3),
    "in a header": _with(b"\x81"),
    "in a frame": _with(text('427["echo","xxxxxxxx"]')[:12]),
    "in a long frame": _with(bytes(Frame(TEXT, b"4" * 5000, declared=50_000))),
    "in a fragmented message": _with(bytes(Frame(TEXT, b"42[", fin=False))),
    "in a binary event": _with(text('452-7["echo",{"_placeholder":true,"num":0}]') + bytes(Frame(BINARY, b"x"))),
    "a close frame just sent": _with(close(1000)),
    "closed": _closing,
    "a close packet": _with(text("1")),
    "a protocol error": _with(bytes(Frame(TEXT, b"6", masked=False))),
    "garbage": _with(text("garbage")),
    "too much": _with(bytes(Frame(TEXT, b"", declared=1 << 40))),
    "left": _with(text("41")),
    "kicked": _with(text('42["kick_me"]')),
    "cut": _with(text('42["cut_me"]')),
    "asked by the server": _with(text('42["ask_me"]')),
    "polling begun": _begun_polling,
    "polling": _joined_polling,
    "in a poll": _in_a_poll,
    "in a post": _in_a_post,
    "in two polls": _in_two_polls,
    "upgrading, before the probe": _upgrading(0),
    "upgrading, after the probe": _upgrading(1),
    "upgrading, at the end": _upgrading(2),
    "upgraded": _upgrading(3),
}.items():
    each_how(_name, _run)


def go(port: int, count: int) -> None:
    """End `count` connections, each kind in turn."""
    for _, run in zip(range(count), itertools.cycle(ends.values()), strict=False):
        run(port)
