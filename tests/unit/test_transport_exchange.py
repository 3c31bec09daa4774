"""Requests at the socket path, which pywsgi does not see: what the application gets and what the client does."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mintflow_realtime.transport.http.exchange import DISCARD_BYTES
from tests.transport_client import PATH, Node, serving, until

Start = Callable[..., Any]


def answering(node: Node, application: Callable[[dict[str, Any], Start], Any]) -> None:
    node.server.application = application


def test_the_body_is_a_file_of_its_length() -> None:
    seen: list[Any] = []

    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        body = environ["wsgi.input"]
        seen.append([body.read(2), body.readline(), body.readline(2), list(body), body.read(), body.read(5)])
        start("200 OK", [])
        return [b"ok"]

    with serving() as node, node.connect() as http:
        answering(node, application)
        http.send("POST", PATH, b"abc\ndefg\nh\ni")
        http.send("POST", PATH, b"\n")
        assert [http.response().body for _ in range(2)] == [b"ok", b"ok"]
    assert seen[0] == [b"ab", b"c\n", b"de", [b"fg\n", b"h\n", b"i"], b"", b""]
    assert seen[1] == [b"\n", b"", b"", [], b"", b""], "what follows belongs to the next request"


def test_a_body_cut_short_is_an_error_and_the_end() -> None:
    errors: list[BaseException] = []

    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
            raise
        return []

    with serving() as node:
        answering(node, application)
        with node.connect() as http:
            http.send("POST", PATH, b"abc", Content_Length="10")
        until(lambda: errors)
        until(lambda: not node.server.pool)


class Pieces:
    """A result of pieces that notes how it was used."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces, self.log = pieces, []

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            self.log.append(piece)

    def close(self) -> None:
        self.log.append("closed")


def test_a_result_is_asked_for_its_next_piece_when_one_is_sent_and_closed_at_the_end() -> None:
    result = Pieces(b"one ", b"two")

    def application(environ: dict[str, Any], start: Start) -> Pieces:
        start("200 OK", [("Content-Length", "7"), ("X-Name", "ü")])
        return result

    with serving() as node, node.connect() as http:
        answering(node, application)
        answer = http.get(PATH)
        assert (answer.status, answer.body, answer.headers["x-name"]) == (200, b"one two", "ü")
        assert "date" in answer.headers and "connection" not in answer.headers
        until(lambda: result.log == [b"one ", b"two", "closed"])


def test_a_head_request_has_no_body_and_the_connection_goes_on() -> None:
    with serving() as node, node.connect() as http:
        http.send("HEAD", PATH + "?EIO=4&transport=polling")
        head = http.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ") and b"Content-Length: " in head
        assert http.get("/").status == 404


@pytest.mark.parametrize("where", ["call", "result"])
def test_an_error_is_a_500_or_the_end_and_is_logged(where: str, caplog: pytest.LogCaptureFixture) -> None:
    result = Pieces(LookupError("a fault"))

    def application(environ: dict[str, Any], start: Start) -> Any:
        if where == "call":
            raise LookupError("a fault")
        start("200 OK", [])
        return result

    with serving() as node, node.connect() as http:
        answering(node, application)
        http.send("GET", PATH)
        assert http.response().status == 500
        assert http.at_end()
        assert "a fault" in caplog.text
        assert result.log == (["closed"] if where == "result" else [])
        until(lambda: not node.server.pool)


def test_204_has_no_length() -> None:
    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        start("204 No Content", [])
        return []

    with serving() as node, node.connect() as http:
        answering(node, application)
        answer = http.get(PATH)
        assert answer.status == 204 and "content-length" not in answer.headers
        assert http.get(PATH).status == 204


@pytest.mark.parametrize("size", [1000, DISCARD_BYTES + 10_000])
def test_a_body_that_nobody_read_is_read_up_to_a_bound(size: int) -> None:
    def application(environ: dict[str, Any], start: Start) -> list[bytes]:
        start("413 Content Too Large", [])
        return [b"too large"]

    with serving() as node, node.connect() as http:
        answering(node, application)
        answer = http.post(PATH, b"x" * size)
        assert (answer.status, answer.body) == (413, b"too large")
        if size > DISCARD_BYTES:
            assert answer.headers["connection"] == "close" and http.at_end()
        else:
            assert "connection" not in answer.headers and http.get(PATH).status == 413


@pytest.mark.parametrize("option", ["close", "Close", "keep-alive, close"])
def test_a_client_that_says_so_gets_its_last_answer(option: str) -> None:
    with serving() as node, node.connect() as http:
        answer = http.get(PATH + "?EIO=4&transport=polling", Connection=option)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert http.at_end()


def test_requests_that_are_pywsgis_are_answered_alike() -> None:
    """A chunked body, and what is asked to be continued."""
    with serving() as node, node.connect() as http:
        target = f"{PATH}?EIO=4&transport=polling&sid={node.polling_session()}"
        assert http.post(target, b"3\r\n4ab\r\n0\r\n\r\n", Transfer_Encoding="chunked").body == b"ok"
        http.send("POST", target, Content_Length="3", Expect="100-continue")
        assert http.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        http.socket.sendall(b"4cd")
        assert http.response().body == b"ok"
        assert node.named("message") == ["ab", "cd"]
