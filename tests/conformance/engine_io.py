"""Rows of Engine.IO v4, and of RFC 6455's opening handshake: requests, polling payloads, packets on a WebSocket.

Sections are headings of engine.io-protocol v4. The codes of refused requests are those of Node's engine.io.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tests.conformance.outcomes import Closes, MayEnd, Outcome, Reply, Row, Table, closes, lives, one_of, unordered
from tests.conformance.rfc6455 import ASKS_BINARY, INVALID_UTF8, MAX, acked, binary_ack, event
from tests.conformance.wire import BINARY, KEY, Frame, payload, text, upgrade_head

TRANSPORT_UNKNOWN, SESSION_UNKNOWN, BAD_METHOD, BAD_REQUEST, FORBIDDEN, UNSUPPORTED = range(6)
LEFT_OPEN = one_of(lives(), closes())
# The worker's tag, a session's usual form, and what else a query may hold.
NO_SESSIONS = ("x", "0123456789abcdefghijklmnopqr", "../../etc", "%00", "x" * 500, "%ff%fe", "undefined", "0")


@dataclass(frozen=True)
class Request:
    """An HTTP request without a session, and the codes of which its refusal may have one; none: it is served."""

    section: str
    method: str
    query: str
    codes: frozenset[int]
    upgrading: bool = False

    def __str__(self) -> str:
        return f"Engine.IO v4 {self.section}: {self.method} {self.query[:60]}{' upgrading' if self.upgrading else ''}"


def requests() -> Iterator[Request]:
    """Every transport with every version, session and method; what is wrong in several ways may be told any."""
    transports = {
        "polling": 0,
        "websocket": 0,
        "": 1,
        None: 1,
        "abc": 1,
        "webtransport": 1,
        "POLLING": 1,
        "polling,": 1,
    }
    versions = {"4": 0, "3": 1, "5": 1, "": 1, None: 1, "abc": 1, "04": 1}
    for transport, version, sid, method in product(
        transports, versions, (None, *NO_SESSIONS[:2]), ("GET", "POST", "PUT", "DELETE", "PATCH")
    ):
        pairs = [("EIO", version), ("transport", transport), ("sid", sid)]
        query = "&".join(f"{name}={value}" for name, value in pairs if value is not None)
        wrong = {TRANSPORT_UNKNOWN} if transports[transport] else set()
        wrong |= {SESSION_UNKNOWN} if sid is not None else set()
        wrong |= {UNSUPPORTED} if versions[version] and (sid is None or wrong) else set()
        wrong |= {BAD_METHOD} if method != "GET" and (sid is None or method != "POST") else set()
        for upgrading in (False, True) if method == "GET" else (False,):
            codes = wrong
            if not wrong and transport == "websocket" and not upgrading:
                codes = {BAD_REQUEST}
            if transport == "websocket" and not upgrading and wrong:
                codes = wrong | {BAD_REQUEST}
            if codes or (transport == "polling" and not upgrading):
                yield Request("Query parameters", method, query, frozenset(codes), upgrading)
    for sid, transport in product(NO_SESSIONS[2:], ("polling", "websocket")):
        codes = frozenset([SESSION_UNKNOWN, BAD_REQUEST] if transport == "websocket" else [SESSION_UNKNOWN])
        yield Request("Receiving data", "GET", f"EIO=4&transport={transport}&sid={sid}", codes)
        yield Request("Sending data", "POST", f"EIO=4&transport={transport}&sid={sid}", codes)
    yield Request("Query parameters", "GET", "EIO=4&transport=polling&j=0", frozenset([BAD_REQUEST]))
    yield Request("Query parameters", "GET", "EIO=4&transport=polling&t=abc&b64=1&x=%00", frozenset())


@dataclass(frozen=True)
class Opening:
    """The bytes of an opening handshake, and the statuses of which its answer must have one."""

    section: str
    name: str
    head: bytes
    statuses: frozenset[int]
    version: bool = False
    """The answer says which versions there are."""

    def __str__(self) -> str:
        return f"RFC 6455 {self.section}: {self.name}"


def openings() -> list[Opening]:
    target = "/socket.io/?EIO=4&transport=websocket"
    good = upgrade_head(target).decode()
    key = f"Sec-WebSocket-Key: {KEY}"
    found = []

    def add(section: str, name: str, head: str, *statuses: int, version: bool = False) -> None:
        assert name == "plain" or head != good, name
        found.append(Opening(section, name, head.encode("latin-1"), frozenset(statuses), version))

    add("4.2.1", "plain", good, 101)
    add(
        "4.2.1",
        "header names in small letters",
        "\r\n".join(
            line.partition(":")[0].lower() + ":" + line.partition(":")[2] if place else line
            for place, line in enumerate(good.split("\r\n"))
            if line
        )
        + "\r\n\r\n",
        101,
    )
    add("4.2.1", "Upgrade: WebSocket", good.replace(": websocket", ": WebSocket"), 101)
    add("4.2.1", "Connection: keep-alive, Upgrade", good.replace(": Upgrade", ": keep-alive, Upgrade"), 101)
    add("4.2.1", "Connection: upgrade", good.replace(": Upgrade", ": upgrade"), 101)
    add("4.2.1", "Connection: Upgrade , x", good.replace(": Upgrade", ":Upgrade , x"), 101)
    add("4.2.1", "an unknown header", good[:-2] + "X-Unknown: 1\r\n\r\n", 101)
    add("4.2.1", "subprotocols", good[:-2] + "Sec-WebSocket-Protocol: chat, superchat\r\n\r\n", 101)
    add(
        "9.1",
        "an extension",
        good[:-2] + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        101,
    )
    add("9.1", "an unknown extension", good[:-2] + "Sec-WebSocket-Extensions: x-unknown\r\n\r\n", 101)
    add("4.2.1 1", "POST", good.replace("GET", "POST", 1), 400, 405)
    # RFC 6455 asks for HTTP/1.1; nginx asks by 1.0 unless it is told otherwise, and passes the 101 on.
    add("4.2.1 1", "HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 101)
    add("4.2.1 2", "no Host", good.replace("Host: localhost\r\n", ""), 400)
    add("4.2.1 3", "no Upgrade", good.replace("Upgrade: websocket\r\n", ""), 400, 426)
    add("4.2.1 3", "Upgrade: h2c", good.replace(": websocket", ": h2c"), 400, 426)
    add("4.2.1 3", "Upgrade: websockets", good.replace(": websocket", ": websockets"), 400, 426)
    add("4.2.1 4", "no Connection", good.replace("Connection: Upgrade\r\n", ""), 400, 426)
    add("4.2.1 4", "Connection: close", good.replace(": Upgrade", ": close"), 400, 426)
    add("4.2.1 4", "Connection: Upgraded", good.replace(": Upgrade", ": Upgraded"), 400, 426)
    add("4.2.1 5", "no key", good.replace(key + "\r\n", ""), 400)
    bad_keys = {
        "an empty key": "",
        "a key of 15 bytes": "AAECAwQFBgcICQoLDA0O",
        "a key of 17 bytes": "AAECAwQFBgcICQoLDA0ODxA=",
        "a key of one byte": "AA==",
        "a key that is not base64": "!" * 24,
        "a key without padding": KEY.rstrip("="),
        "a key and more": KEY + "==",
    }
    for name, value in bad_keys.items():
        add("4.2.1 5", name, good.replace(KEY, value), 400)
    for value in ("0", "7", "8", "12", "14", "1", "113", "-13", "abc", ""):
        add(
            "4.2.1 6, 4.4",
            f"version {value or 'empty'}",
            good.replace("Version: 13", f"Version: {value}"),
            400,
            426,
            version=True,
        )
    add("4.2.1 6, 4.4", "no version", good.replace("Sec-WebSocket-Version: 13\r\n", ""), 400, 426, version=True)
    return found


def rows() -> list[Row]:
    """Return rows of packets on a WebSocket."""
    table = Table()
    section = "Engine.IO v4 Packet encoding"
    for packet in ("3", "3probe", "3" + "x" * 200, "6", "6x"):
        table.add(section, f"{packet[:9]} of {len(packet)}", text(packet), lives())
    for packet in ("0", "0{}", '0{"sid":"x"}', "2", "2probe", "2x", "5", "5x"):
        # What a server sends, or what belongs into an upgrade: the document doesn't say what comes of it here.
        table.add(section + ", left open", packet, text(packet), LEFT_OPEN)
    table.add("Engine.IO v4 Protocol, close", "1", text("1"), closes())
    table.add("Engine.IO v4 Protocol, close", "1 and more", text("1x"), one_of(closes(), lives()))
    table.add("Engine.IO v4 Protocol, close", "an event behind it", text("1") + text(event(40)), closes())
    table.add(
        "Engine.IO v4 Protocol, close", "an event before it", text(event(40)) + text("1"), MayEnd(acked(event(40)))
    )
    table.add("Engine.IO v4 Protocol, close", "first of all", text("1"), closes(), namespaces=())
    for kind in (
        "7",
        "8",
        "9",
        "a",
        "A",
        "z",
        "-",
        " ",
        "\n",
        "\x1e",
        "\0",
        "/",
        ":",
        "{",
        "[",
        '"',
        "ä",
        "٤",
        "²",
        "４",
        "💜",
    ):
        for rest in ("", "x", '2["echo"]'):
            table.add(section, f"type {kind!r} and {rest or 'nothing'}", text(kind + rest), closes())
        table.add(section, f"type {kind!r}, first of all", text(kind), closes(), namespaces=())
        table.add(section, f"type {kind!r} after an event", text(event(40)) + text(kind), MayEnd(acked(event(40))))
    table.add(section, "no packet", text(""), closes())
    table.add(section, "no packet, first of all", text(""), closes(), namespaces=())
    table.add(section, "packets in one message", text("3\x1e3"), lives())
    between = ASKS_BINARY + text("3") + text("6") + bytes(Frame(BINARY, b"x"))
    table.add("Engine.IO v4 WebSocket", "a pong before an attachment", between, lives(*binary_ack(b"x")))
    base64 = ASKS_BINARY + text("beA==")
    table.add("Engine.IO v4 WebSocket", "base64 on a WebSocket", base64, one_of(lives(*binary_ack(b"x")), closes()))
    for bad in ("b", "b!", "beA", "beA=", "b===", "b\x1e"):
        table.add("Engine.IO v4 WebSocket", f"base64 on a WebSocket: {bad!r}", text(bad), closes())
    return table.checked()


@dataclass(frozen=True)
class Body:
    """The body of a polling POST in a session that is in `/`, the statuses it may get, and what comes of it."""

    section: str
    name: str
    body: bytes
    statuses: tuple[int, ...]
    outcome: Outcome
    headers: tuple[str, ...] = ()
    namespaces = ("/",)
    await_replies = 0

    def __str__(self) -> str:
        return f"Engine.IO v4 {self.section}: {self.name}"


ENDS = closes()


def bodies() -> list[Body]:
    found: list[Body] = []

    def add(
        section: str, name: str, body: bytes | str, statuses: int | tuple[int, ...], outcome: Outcome, *headers: str
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        found.append(
            Body(section, name, content, (statuses,) if isinstance(statuses, int) else statuses, outcome, headers)
        )

    encoding = "Packet encoding, HTTP long-polling"
    for count in (1, 2, 15, 16, 17, 18, 32, 33, 64, 100, 257):
        contents = [event(30, nth) for nth in range(count)]
        add(encoding, f"{count} events", payload(*contents), 200, unordered(*map(acked, contents)))
        add(encoding, f"{count} pongs", payload(*["3"] * count), 200, lives())
        garbage = payload(*contents, "x")
        add(
            encoding,
            f"{count} events and garbage",
            garbage,
            400,
            Closes(ENDS.codes, tuple(map(acked, contents)), exactly=False),
        )
    asks = '451-7["echo",{"_placeholder":true,"num":0}]'
    for size in (0, 1, 2, 3, 4, 100, 1000, MAX // 2):
        blob = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
        add(encoding, f"binary of {size} bytes", payload(asks, blob), 200, lives(*binary_ack(blob)))
    add(
        encoding,
        "text around binary",
        payload(event(40, 1), asks, b"x", event(40, 2)),
        200,
        unordered(acked(event(40, 1)), *binary_ack(b"x"), acked(event(40, 2))),
    )
    garbage = {
        "nothing": "",
        "a separator": "\x1e",
        "two separators": "\x1e\x1e",
        "type 7": "7",
        "type 8": "8x",
        "type 9": "9",
        "a letter": "abc",
        "JSON": '{"a":1}',
        "a form": "d=4hello",
        "version 3": "7:4hello!",
        "a b alone, and no attachment due": "b",
        "base64 of one letter": "bA",
        "base64 without padding": "bAQ",
        "base64 and a line end": "bAQ==\n",
        "a space in base64": "b AQ==",
        "no base64": "b!!!!",
        "URL-safe base64": "b-_-_",
        "unicode digits": "٤2",
        "a NUL": "\0",
        "a byte order mark": "\ufeff3",
    }
    for name, body in garbage.items():
        add(encoding, f"garbage: {name}", body, 400, ENDS)
        if body and "\x1e" not in body:
            add(encoding, f"garbage after a pong: {name}", "3\x1e" + body, 400, ENDS)
            add(encoding, f"garbage before a pong: {name}", body + "\x1e3", 400, ENDS)
    add(encoding, "a separator at the end", "3\x1e", 400, ENDS)
    add(encoding, "a separator at the start", "\x1e3", 400, ENDS)
    add(encoding, "two separators within", "3\x1e\x1e3", 400, ENDS)
    for name, bad in INVALID_UTF8.items():
        add("Packet encoding", f"no UTF-8: {name}", b'427["echo","' + bad + b'"]', 400, ENDS)
    for packet in ("0", '0{"sid":"x"}', "2", "2probe", "5", "5:4hello"):
        add("Protocol, left open", f"packet {packet}", packet, (200, 400), LEFT_OPEN)
    add("Protocol, close", "close", "1", 200, ENDS)
    add("Protocol, close", "an event, then close", payload(event(40), "1"), 200, MayEnd(acked(event(40))))
    add("Protocol, close", "close, then an event", payload("1", event(40)), (200, 400), ENDS)
    limit = event(MAX)
    add("maxPayload", "all that is allowed", limit, 200, lives(acked(limit)))
    add("maxPayload", "all that is allowed, chunked", chunked(limit.encode()), 200, lives(acked(limit)), CHUNKED)
    gone_or_not = one_of(lives(), closes())
    for size in (MAX + 1, MAX + 2, MAX * 2, MAX * 10):
        add("maxPayload", f"{size} bytes", event(size), 413, gone_or_not)
        add("maxPayload", f"{size} bytes, chunked", chunked(event(size).encode()), 413, gone_or_not, CHUNKED)
    for size in (1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**30):
        add("maxPayload", f"{size} bytes announced", b"", 413, gone_or_not, f"Content-Length: {size}")
    for kind in ("text/plain;charset=UTF-8", "text/plain", "application/x-www-form-urlencoded", "application/json"):
        add("Headers", kind, event(40), 200, lives(acked(event(40))), f"Content-Type: {kind}")
    replies: tuple[Reply, ...] = (acked(event(40)),)
    add(
        "Headers, left open",
        "application/octet-stream",
        event(40),
        (200, 400),
        one_of(lives(*replies), ENDS),
        "Content-Type: application/octet-stream",
    )
    for size in (1, 7, 1000):
        add(
            "Sending data",
            f"chunks of {size}",
            chunked(event(3000).encode(), size),
            200,
            lives(acked(event(3000))),
            CHUNKED,
        )
    assert len({str(one) for one in found}) == len(found), sorted(map(str, found))
    return found


CHUNKED = "Transfer-Encoding: chunked"


def chunked(body: bytes, size: int = 5000) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in [*pieces, b""])
