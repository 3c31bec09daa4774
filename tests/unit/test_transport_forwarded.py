"""What proxies say counts where they are trusted, on views, polls and WebSockets alike, and is else ignored."""

from typing import Any

import pytest

from mintflow_realtime.transport.http.forwarded import TrustedProxies
from tests.transport_client import PATH, POLLING, WebSocket, serving

TLS = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "app.example:8443"}


def seen(allowed: str, peer: Any, **headers: str) -> tuple[str, str, str, str | None]:
    """Return address, scheme, host and port of the client that an application is shown."""
    address = peer[0] if isinstance(peer, tuple) else ""
    environ: dict[str, Any] = {
        "REMOTE_ADDR": address,
        "REMOTE_PORT": "4711",
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inner",
    }
    environ |= headers
    TrustedProxies(allowed).apply(environ, peer)
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ.get("REMOTE_PORT")


@pytest.mark.parametrize(
    ("allowed", "hops", "client"),
    [
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "192.0.2.7:4711", "192.0.2.7"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("127.0.0.1", "[2001:db8::7]:80", "2001:db8::7"),
        ("127.0.0.1", "::ffff:192.0.2.7", "192.0.2.7"),
        # What the client made up stands before what the proxies saw.
        ("127.0.0.1", "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.1, 192.0.2.0/24", "203.0.113.9, 198.51.100.1, 192.0.2.7", "198.51.100.1"),
        ("*", "203.0.113.9, 192.0.2.7", "203.0.113.9"),
        ("127.0.0.1", "192.0.2.7, unknown", "127.0.0.1"),
        ("127.0.0.1,192.0.2.7", "unknown, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_no_trusted_proxy_is(allowed: str, hops: str, client: str) -> None:
    assert seen(allowed, ("127.0.0.1", 4711), HTTP_X_FORWARDED_FOR=hops)[0] == client


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::ffff:127.0.0.1", 1, 0, 0), ("::1", 1, 0, 0), ""])
def test_a_trusted_peer_tells_scheme_and_host(peer: Any) -> None:
    assert seen("127.0.0.1,::1", peer, HTTP_X_FORWARDED_FOR="192.0.2.7", **TLS) == (
        "192.0.2.7",
        "https",
        "app.example:8443",
        None,
    )


@pytest.mark.parametrize("peer", [("192.0.2.7", 1), ("::ffff:192.0.2.7", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2)])
def test_nobody_else_does(peer: Any) -> None:
    told = seen("127.0.0.1,::1", peer, HTTP_X_FORWARDED_FOR="203.0.113.9", **TLS)
    assert told == (peer[0], "http", "inner", "4711")


@pytest.mark.parametrize("scheme", ["http", "ftp", "", "https,http", "javascript"])
def test_a_scheme_that_is_none_or_another_proxys_is_ignored(scheme: str) -> None:
    assert seen("*", ("127.0.0.1", 1), HTTP_X_FORWARDED_PROTO=scheme)[1] == "http"


@pytest.mark.parametrize("host", ["a b", "a/b", "", "user@a", "a,", "[::1"])
def test_a_host_that_is_none_is_ignored(host: str) -> None:
    assert seen("*", ("127.0.0.1", 1), HTTP_X_FORWARDED_HOST=host)[2] == "inner"


def test_websockets_over_tls_are_https() -> None:
    assert seen("*", ("127.0.0.1", 1), HTTP_X_FORWARDED_PROTO="wss")[1] == "https"


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        TrustedProxies("127.0.0.1,nonsense")


def test_polls_websockets_and_views_show_the_same_client() -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example"}
    with serving() as node, node.connect() as http:
        http.get(PATH + POLLING, **forwarded)
        with WebSocket(node.port, **forwarded):
            assert node.named("connect") == ["192.0.2.7", "192.0.2.7"]
        told: list[Any] = []

        def view(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            told.append((environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"]))
            start_response("200 OK", [("Content-Length", "0")])
            return []

        node.server.application = view
        http.get("/", **forwarded)
        assert told == [("192.0.2.7", "https", "app.example")]
