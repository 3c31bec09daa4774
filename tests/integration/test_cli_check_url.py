"""`mintflow check URL`: nothing to say of a server as it should be, and the setting of a proxy that is not."""

from collections.abc import Iterator

import pytest

from tests.command import run
from tests.nginx import Nginx
from tests.redis_fixture import PrivateRedis
from tests.servers import Node, free_port, stopping, token
from tests.tls import TlsServer
from tests.wrong_nginx import WrongNginx

UPGRADED = """
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection "upgrade";
"""
# The longest silence is a ping's; the default of 25 s would make each test of it as long.
PING_SECONDS = 4.0


@pytest.fixture(scope="module")
def server(shared_redis: PrivateRedis) -> Iterator[Node]:
    """One worker that pings often."""
    node = Node(REDIS_URL=shared_redis.url, REDIS_PREFIX="checked", SOCKET_PING_INTERVAL=str(PING_SECONDS))
    with stopping(node):
        yield node.wait_ready()


def _checked(url: str, *more: str) -> tuple[int, dict[str, str], str]:
    """Return the exit code, the outcome of each step, and the whole output."""
    done = run("check", url, *more)
    assert "Traceback" not in done.stderr, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("ok ", "warning ", "failed "))]
    outcomes = {" ".join(row[1:3]) if row[1] in ("900", "idle", "long") else row[1]: row[0] for row in rows}
    return done.returncode, outcomes, done.stdout


def test_all_is_well_without_a_proxy(server: Node) -> None:
    code, outcomes, text = _checked(server.url)
    assert code == 0, text
    assert set(outcomes.values()) == {"ok"}
    assert set(outcomes) == {
        "server", "proxy", "cache", "headers", "long URL", "polling", "websocket", "upgrade", "900 KB", "idle ws",
        "idle poll",
    }  # fmt: skip
    assert "none that tells of itself" in text
    assert text.count("900 KB pass, each way") == 2
    assert "lived for 6 s, with a heartbeat each 4 s" in text
    assert "\x1b" not in text


def test_all_is_well_behind_a_proxy_as_it_should_be(server: Node) -> None:
    front = Nginx(server.port)
    with stopping(front):
        code, outcomes, text = _checked(front.url)
    assert code == 0, text
    assert set(outcomes.values()) == {"ok"}, text
    assert "nginx is in between" in text


def test_no_upgrade_headers(server: Node) -> None:
    front = WrongNginx(server.port, "proxy_http_version 1.1; proxy_set_header Connection ''; client_max_body_size 4m;")
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    assert code == 1
    assert outcomes["polling"] == "ok"
    assert outcomes["websocket"] == outcomes["upgrade"] == "failed"
    assert text.count("proxy_set_header Upgrade $http_upgrade") == 1
    assert text.count("900 KB pass, each way") == 1, "polling goes on"


def test_http_1_0(server: Node) -> None:
    """Today's server refuses such a WebSocket; one that serves it has nothing to complain of."""
    headers = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; client_max_body_size 4m;'
    front = WrongNginx(server.port, f"proxy_http_version 1.0; {headers}")
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    if outcomes["websocket"] == "failed":
        assert code == 1 and "proxy_http_version 1.1" in text


def test_a_body_too_large(server: Node) -> None:
    front = WrongNginx(server.port, UPGRADED + "client_max_body_size 100k;")
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    assert code == 1
    assert "failed   900 KB poll  900 KB are answered with 413" in text
    assert "client_max_body_size" in text
    assert "ok       900 KB ws    900 KB pass, each way" in text, "a WebSocket has no body"


def test_a_read_timeout_below_the_heartbeats(server: Node) -> None:
    front = WrongNginx(server.port, UPGRADED + "client_max_body_size 4m; proxy_read_timeout 2s;")
    with stopping(front):
        code, outcomes, text = _checked(front.url)
    assert code == 1
    assert outcomes["idle ws"] == outcomes["idle poll"] == "failed", text
    assert "cut (1006) after 2." in text and "a waiting poll gets 504 after 2." in text
    assert text.count("nginx: proxy_read_timeout above it") == 2


def test_a_cache(server: Node) -> None:
    cache = "proxy_cache kept; proxy_cache_valid 200 1m; proxy_ignore_headers Cache-Control;"
    front = WrongNginx(server.port, UPGRADED + "client_max_body_size 4m;" + cache)
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    assert code == 1
    assert outcomes["cache"] == "failed"
    assert "one and the same session" in text and "proxy_cache off" in text


def test_heads_too_long(server: Node) -> None:
    front = WrongNginx(server.port, UPGRADED + "client_max_body_size 4m;", server="large_client_header_buffers 2 4k;")
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    assert code == 1
    assert outcomes["long URL"] == "failed"
    assert "414" in text and "large_client_header_buffers" in text


def test_cors_twice(server: Node) -> None:
    front = WrongNginx(
        server.port, UPGRADED + "client_max_body_size 4m; add_header Access-Control-Allow-Origin * always;"
    )
    with stopping(front):
        code, outcomes, text = _checked(front.url, "--idle", "0")
    assert (code, outcomes["headers"]) == (1, "failed")
    assert "access-control-allow-origin comes twice" in text


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("return 302 https://realtime.example.com$request_uri;", "is redirected to https://realtime.example.com"),
        ("return 401;", "401 by nginx: refused before the server"),
        ("return 404;", "there is no Socket.IO at"),
        ("return 200 'hello';", "is answered by something else"),
    ],
)
def test_who_answers_is_not_the_server(server: Node, location: str, said: str) -> None:
    front = WrongNginx(server.port, location)
    with stopping(front):
        code, outcomes, text = _checked(front.url)
    assert code == 1 and list(outcomes) == ["server"]
    assert said in text


def test_a_proxy_that_reaches_no_server() -> None:
    front = WrongNginx(free_port(), UPGRADED)
    with stopping(front):
        code, _, text = _checked(front.url)
    assert code == 1
    assert "502 by nginx: the proxy doesn't reach the server" in text


def test_nobody_there() -> None:
    code, _, text = _checked(f"http://127.0.0.1:{free_port()}")
    assert code == 1 and "nothing listens at 127.0.0.1:" in text
    code, _, text = _checked("https://nobody.invalid")
    assert code == 1 and "the name nobody.invalid:443 is not known" in text


def test_https(server: Node) -> None:
    certified = TlsServer()
    key = certified.ca.with_name("key.pem")
    tls = f"ssl_certificate {certified.ca}; ssl_certificate_key {key};"
    front = WrongNginx(server.port, UPGRADED + "client_max_body_size 4m;", server=tls, tls=True)
    with stopping(front, certified):
        code, outcomes, text = _checked(front.url, "--idle", "0")
        assert code == 1 and list(outcomes) == ["server"]
        assert "the certificate of 127.0.0.1:" in text and "fullchain.pem" in text
        code, outcomes, text = _checked(front.url, "--idle", "1", "--insecure")
        assert code == 0 and set(outcomes.values()) == {"ok"}, text
        code, _, text = _checked(front.url.replace("https", "http"), "--idle", "0")
        assert code == 1 and "400" in text
    code, _, text = _checked(server.url.replace("http", "https"))
    assert code == 1 and "Is it http:// or https:// there" in text


def test_a_server_that_asks_for_a_token(closed_node: Node) -> None:
    code, _, text = _checked(closed_node.url, "--idle", "0")
    assert code == 1
    assert "authentication_required" in text and "mintflow token" in text
    code, outcomes, text = _checked(closed_node.url, "--idle", "0", "--token", token())
    assert code == 0 and set(outcomes.values()) == {"ok"}, text
    code, outcomes, text = _checked(closed_node.url, "--idle", "0", "--token", token(scope="logs:read"))
    assert code == 0, text
    assert outcomes["900 KB"] == "warning" and "workspaces:write" in text


def test_what_is_no_url() -> None:
    for url in ("ftp://127.0.0.1", "http://user:word@127.0.0.1", "http://[::1", "http://127.0.0.1:99999999"):
        done = run("check", url)
        assert done.returncode == 2 and "word" not in done.stderr.replace("password", "")
        assert "Traceback" not in done.stderr
