"""Runs a row against a server, beside a healthy client that must notice nothing."""

from tests.conformance.engine_io import Body, Opening, Request
from tests.conformance.outcomes import Row
from tests.conformance.socket_io import Packets
from tests.conformance.wire import (
    ACCEPT,
    Peer,
    Polling,
    Received,
    Response,
    WebSocket,
    close,
    normal,
    payload,
    text,
    upgrade_head,
)

PROBE = '42999["echo","probe"]'
PROBE_ACK = (3, 0, "/", 999, ["probe"])


class Server:
    """A server's port, and a healthy client of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.healthy = WebSocket(port).joined("/")

    def serves(self) -> None:
        """Check that the healthy client is answered. All that was sent before has been read by then."""
        try:
            assert self.healthy.ask("well?") == ["well?"]
        except (AssertionError, EOFError, OSError) as error:
            # One case that failed must not be the failure of all that come after it.
            self.healthy.close()
            self.healthy = WebSocket(self.port).joined("/")
            raise AssertionError(f"the client beside the case was not answered: {error}") from None

    def close(self) -> None:
        self.healthy.close()


def run(server: Server, row: Row) -> None:
    """Send what the row says, and hold what comes of it against the row's outcome."""
    try:
        _run(server, row)
    except (AssertionError, EOFError) as error:
        raise AssertionError(f"{row}\nsent: {row.bytes[:300]!r}\nwanted: {row.outcome!r:.1000}\n{error}") from None
    server.serves()


def _run(server: Server, row: Row) -> None:
    with WebSocket(server.port) as client:
        client.joined(*row.namespaces)
        for place, segment in enumerate(row.segments):
            if place:
                server.serves()
            client.send(segment)
        replies, end = observe(client, row.await_replies)
        if row.outcome.may_live and end is None:
            client.send(text(PROBE))
        if end is None:
            more, end = observe(client)
            replies += more
        assert row.outcome.met(replies, end), f"came: {shown(replies)} {end}"
        if end is not None and end.kind == "close":
            assert client.ended()


def run_polling(server: Server, row: Packets | Body) -> None:
    """Send a row's packets in one polling request. An end is a session that is unknown afterwards."""
    body = row.body if isinstance(row, Body) else payload(*row.packets)
    try:
        with Polling(server.port) as client:
            client.joined(*row.namespaces)
            if isinstance(row, Body):
                with Peer(server.port) as poster:
                    posted = poster.ask("POST", client.target, body, *row.headers)
                assert posted.status in row.statuses, posted
            else:
                posted = client.post(*row.packets)
                assert posted.status in (200, 400), posted
            _observe_polling(client, posted, row)
    except (AssertionError, EOFError) as error:
        raise AssertionError(f"{row}\nsent: {body!r:.300}\nwanted: {row.outcome!r:.1000}\n{error}") from None
    server.serves()


def _observe_polling(client: Polling, posted: Response, row: Packets | Body) -> None:
    replies, probed = list[Received](), False
    end = Received("close") if posted.status == 400 else None
    while True:
        if end is None and not probed and row.outcome.may_live and len(replies) >= row.await_replies:
            probed = True
            if client.post(PROBE).status == 400:
                end = Received("close")
        came = client.poll()
        acked = [one.content for one in came if one.kind == "text" and normal(one.content) == PROBE_ACK]
        replies += [one for one in came if one.kind != "end" and one.content not in acked]
        if Received("end") in came:
            end = Received("close")
        if acked or Received("end") in came:
            break
    assert row.outcome.met(replies, end), f"posted: {posted.status}, came: {shown(replies)} {end}"


def run_request(server: Server, row: Request) -> None:
    """Send a request without a session, and check how it is refused."""
    with Peer(server.port) as peer:
        if row.upgrading:
            peer.send(upgrade_head("/socket.io/?" + row.query))
            answer = peer.response()
        else:
            answer = peer.ask(row.method, "/socket.io/?" + row.query, b"3" if row.method != "GET" else None)
        if not row.codes:
            assert answer.status == 200 and answer.body[:1] == b"0", answer
        else:
            assert (answer.status, answer.code in row.codes) == (400, True), answer
        if row.upgrading:
            assert peer.at_end()
    # It answers the server's pings only while it is asked something.
    server.serves()


def run_opening(server: Server, row: Opening) -> None:
    """Send an opening handshake, and check its answer."""
    with Peer(server.port) as peer:
        peer.send(row.head)
        answer = peer.response()
        assert answer.status in row.statuses, answer
        if row.version:
            assert "13" in answer.headers.get("sec-websocket-version", ""), answer
        if answer.status == 101:
            assert answer.headers["upgrade"].lower() == "websocket"
            assert "upgrade" in answer.headers["connection"].lower()
            assert answer.headers["sec-websocket-accept"] == ACCEPT
            assert "sec-websocket-extensions" not in answer.headers
            assert answer.headers.get("sec-websocket-protocol", "chat") in ("chat", "superchat")
            peer.send(close(1000))
        else:
            assert "upgrade" not in answer.headers.get("connection", "").lower() or answer.status == 426
    server.serves()


def observe(client: WebSocket, most: int | None = None) -> tuple[list[Received], Received | None]:
    """Return what comes until the probe is acked, or until a close frame or the TCP end, and that end."""
    replies: list[Received] = []
    while len(replies) != most:
        came = client.next()
        if came.kind in ("close", "end"):
            return replies, came
        if came.kind == "text" and normal(came.content) == PROBE_ACK:
            return replies, None
        replies.append(came)
    return replies, None


def shown(replies: list[Received]) -> str:
    return " ".join(f"{one!r:.200}" for one in replies)
