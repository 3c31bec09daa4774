"""What every proxy must let through, in front of two hosts of two workers each: one test each, run for each proxy."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import requests
import websocket

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.settings.settings import Settings
from tests.comeback import Comeback
from tests.ports import free_port
from tests.proxies.proxy import PING_INTERVAL, PING_TIMEOUT, TIMEOUT, Proxy, source_bound
from tests.servers import API_KEY, Node, RedisServer, stopping, token, until

POLLING = "/socket.io/?EIO=4&transport=polling"
ENV = {
    "SOCKET_PING_INTERVAL": str(PING_INTERVAL),
    "SOCKET_PING_TIMEOUT": str(PING_TIMEOUT),
    "SOCKET_RATE_LIMIT": "0",
    "DRAIN_SECONDS": "1",
    "GUNICORN_CMD_ARGS": "--graceful-timeout 3",
}
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgraded": ["polling", "websocket"]}
# Of our own making: documentation's address, which no client here has.
FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "forged.example"}
CLIENT = "127.0.0.9"
# SOCKET_MAX_PAYLOAD without what the packet adds.
MEGABYTE = 999_900


class Hosts:
    """Two hosts on one Redis, and who publishes beside them."""

    def __init__(self) -> None:
        self.redis = RedisServer()
        env = {**ENV, "REDIS_URL": self.redis.url, "REDIS_PREFIX": "proxies"}
        application = "tests.integration.apps.behind:application"
        self.nodes = [Node(application=application, workers=2, HOST_ID=str(number), **env) for number in (1, 2)]
        self.emit = Emitter(settings=Settings.from_env(self.nodes[0].env))
        self._published = 0

    def publish(self) -> str:
        """Start a run, which every client of the tenant in /flows hears of; return its id."""
        self._published += 1
        run = f"r{self._published}"
        self.emit.flows.started("acme", "f", run)
        return run

    def stop(self) -> None:
        self.emit.close()
        for server in (*self.nodes, self.redis):
            server.stop()


@pytest.fixture(scope="class")
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    with stopping(hosts):
        for node in hosts.nodes:
            node.wait_ready(60)
        yield hosts


@pytest.fixture(scope="class")
def proxy(request: pytest.FixtureRequest, hosts: Hosts) -> Iterator[Proxy]:
    proxy = request.cls.proxy_type(*(node.port for node in hosts.nodes))
    with stopping(proxy):
        until(lambda: both_hosts(proxy), 20, "both hosts get first requests")
        yield proxy


@contextlib.contextmanager
def clients(url: str) -> Iterator[dict[str, Comeback]]:
    """Connect a stock client by each transport; the upgrade is over."""
    made = {name: Comeback(url, "/flows", "/probe", transports=wanted) for name, wanted in TRANSPORTS.items()}
    with stopping(*made.values()):
        for name, client in made.items():
            client.wait("/flows", seconds=30), client.wait("/probe", seconds=30)
            until(lambda name=name, client=client: transport(client) == TRANSPORTS[name][-1], 20, f"{name}: upgrade")
        yield made


def transport(client: Comeback) -> str:
    before = len(client.said("/flows", "transport"))
    client.do("/flows", "transport")
    return until(lambda: client.said("/flows", "transport")[before:], 10, "the client answers")[0][0]


def runs(client: Comeback) -> list[str]:
    return [payload["runId"] for payload in client.heard("/flows", "flow_started")]


def all_hear(made: dict[str, Comeback], *expected: str) -> None:
    """Wait until each client has heard of these runs, in order, once, as the last."""
    for name, client in made.items():
        until(lambda client=client: expected[-1] in runs(client), 30, f"{name} hears {expected}: {client.lines[-5:]}")
        assert runs(client)[-len(expected) :] == list(expected), name
        assert len(set(runs(client))) == len(runs(client)), name


def disturbances(made: dict[str, Comeback]) -> dict[str, list[Any]]:
    """Return whom something ended for."""
    told = ("disconnect", "connect_error")
    return {
        name: [line for line in client.lines if line[1] in told]
        for name, client in made.items()
        if any(line[1] in told for line in client.lines)
    }


def sid_of(response: requests.Response) -> str:
    assert response.status_code == 200, (response.status_code, response.text[:500])
    return str(json.loads(response.text[1:])["sid"])


def first(url: str, query: str = "") -> str:
    """Begin a session on a connection of its own; return its id."""
    return sid_of(requests.get(url + POLLING + query, headers={"Connection": "close"}, timeout=20))


def answers(url: str) -> bool:
    response = requests.get(url, headers={"Connection": "close"}, timeout=20)
    assert response.status_code in (200, 503), (response.status_code, response.text[:300])
    return response.status_code == 200


def both_hosts(proxy: Proxy) -> bool:
    with contextlib.suppress(AssertionError, requests.RequestException):
        return {first(proxy.url)[:2] for _ in range(12)} == {"01", "02"}
    return False


def open_websocket(url: str, query: str = "", source: str = CLIENT) -> websocket.WebSocket:
    host, _, port = url.partition("//")[2].partition(":")
    connection = socket.create_connection((host, int(port)), 10, source_address=(source, 0))
    return websocket.create_connection(
        url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket" + query,
        socket=connection,
        header=[f"{name}: {value}" for name, value in FORGED.items()],
        timeout=20,
    )


class Behaviour:
    """The tests, in an order in which each leaves both hosts and the proxy running."""

    proxy_type: ClassVar[type[Proxy]]
    # Whether it asks the other host where one answers 503.
    asks_the_next_host = True

    def test_a_sessions_requests_reach_its_host(self, proxy: Proxy, hosts: Hosts) -> None:
        for number, node in enumerate(hosts.nodes, 1):
            for order in ("?EIO=4&transport=polling&sid={}", "?sid={}&transport=polling&EIO=4"):
                sid = first(node.url)
                assert sid.startswith(f"{number:02x}")
                for _ in range(6):
                    answer = requests.post(proxy.url + "/socket.io/" + order.format(sid), "3", timeout=20)
                    assert answer.text == "ok", (sid, answer.status_code, answer.text[:300])
        assert both_hosts(proxy)

    @pytest.mark.parametrize("name", TRANSPORTS)
    def test_a_megabyte_each_way(self, proxy: Proxy, hosts: Hosts, name: str) -> None:
        client = Comeback(proxy.url, "/probe", transports=TRANSPORTS[name])
        with stopping(client):
            client.wait("/probe", seconds=30)
            client.do("/probe", "echo", MEGABYTE)
            until(lambda: client.said("/probe", "echoed"), 30, f"the answer: {client.lines}")
            assert client.said("/probe", "echoed") == [[MEGABYTE, True]]
            assert client.said("/probe", "disconnect") == []

    def test_long_queries_and_large_batches(self, proxy: Proxy, hosts: Hosts) -> None:
        assert first(proxy.url, "&padding=" + "p" * 8000)
        record = {"flowId": "f", "runId": "large", "logLevel": "info", "message": "m" * 3700}
        body = json.dumps([record] * 1000, separators=(",", ":"))
        assert 3_700_000 < len(body) < 4_000_000
        headers = {"X-API-Key": API_KEY, "Content-Type": "application/json", "Idempotency-Key": "large"}

        def taken() -> bool:
            """On a busy machine Redis may be slow: then it says so, and asks to be asked again."""
            answer = requests.post(proxy.url + "/api/v1/logs", body, headers=headers, timeout=60)
            assert answer.ok or answer.json()["error"]["code"] == "unavailable", (answer.status_code, answer.text[:300])
            return answer.ok

        until(taken, 60, "a large batch is taken")

    def test_the_clients_address_is_the_proxys_word(self, proxy: Proxy, hosts: Hosts) -> None:
        here = proxy.url.partition("//")[2]
        expected = {
            "REMOTE_ADDR": CLIENT,
            "HTTP_HOST": here,
            "wsgi.url_scheme": "http",
            "HTTP_X_FORWARDED_FOR": CLIENT,
            "HTTP_X_FORWARDED_HOST": here,
        }

        def checked(seen: dict[str, Any], *schemes: str) -> None:
            assert seen.pop("HTTP_X_FORWARDED_PROTO") in schemes
            assert seen == expected

        with source_bound(CLIENT) as session:
            checked(session.get(proxy.url + "/seen", headers=FORGED, timeout=20).json(), "http")
            sid = sid_of(session.get(proxy.url + POLLING, headers=FORGED, timeout=20))
            target = f"{proxy.url}{POLLING}&sid={sid}"
            assert session.post(target, "40/probe,", headers=FORGED, timeout=20).text == "ok"
            packets = ""
            while "seen" not in packets:
                packets = session.get(target, headers=FORGED, timeout=20).text
            checked(_seen(packets.split("\x1e")[-1]), "http")
        connection = open_websocket(proxy.url)
        with contextlib.closing(connection):
            connection.send("40/probe,")
            packet = ""
            while "seen" not in packet:
                packet = connection.recv()
            checked(_seen(packet), "http", "ws")

    def test_no_token_in_its_logs(self, proxy: Proxy, hosts: Hosts) -> None:
        """Neither where all is well nor where no host answers, which most proxies write a line about."""
        dark = type(proxy)(free_port(), free_port())
        with stopping(dark):
            for one in (proxy, dark):
                secret = token("nobody", jti=f"secret-{one.port}")
                for query in (
                    f"&token={secret}",
                    f"&token={secret}&sid=01abcdef{'A' * 20}",
                    f"&token={secret}&ticket=x",
                ):
                    requests.get(one.url + POLLING + query, timeout=30)
                    with contextlib.suppress(websocket.WebSocketException, OSError):
                        open_websocket(one.url, query).close()
                # A head that no proxy takes.
                with socket.create_connection(("127.0.0.1", one.port), 10) as line:
                    line.sendall(f"GET {POLLING}&token={secret} HTTP/1.1\r\nHost: a b\r\nBad Name: x\r\n\r\n".encode())
                    line.settimeout(10)
                    with contextlib.suppress(OSError):
                        line.recv(4096)
                assert secret not in one.written()

    def test_server_sent_events_come_as_they_happen(self, proxy: Proxy, hosts: Hosts) -> None:
        """One that is kept on the way until there is more to send would never come here."""
        headers = {"X-API-Key": API_KEY}
        url = f"{proxy.url}/api/v1/streams/flows"
        with requests.get(url, headers=headers, stream=True, timeout=20) as answer:
            lines = answer.iter_lines(chunk_size=None, decode_unicode=True)
            assert next(line for line in lines if line.startswith("event")) == "event: position"
            for _ in range(3):
                run = hosts.publish()
                last = next(line for line in lines if line.startswith("id: ")).partition(" ")[2]
                assert run in next(line for line in lines if line.startswith("data"))
        missed = hosts.publish()
        with requests.get(url, headers={**headers, "Last-Event-ID": last}, stream=True, timeout=20) as again:
            lines = again.iter_lines(chunk_size=None, decode_unicode=True)
            assert missed in next(line for line in lines if line.startswith("data: ") and "runId" in line)

    def test_idle_clients_stay(self, proxy: Proxy, hosts: Hosts) -> None:
        """For longer than every timeout of the proxy's, with nothing but heartbeats."""
        with clients(proxy.url) as made:
            time.sleep(TIMEOUT + 3)
            all_hear(made, hosts.publish())
            assert disturbances(made) == {}

    def test_a_host_that_drains(self, proxy: Proxy, hosts: Hosts) -> None:
        """Nobody is refused: first requests go to the other host, and who was there goes on there as the same."""
        leaving = hosts.nodes[0]
        with clients(proxy.url) as made, clients(proxy.url) as others:
            everyone = {**made, **{f"other {name}": client for name, client in others.items()}}
            before = hosts.publish()
            all_hear(everyone, before)
            leaving.process.send_signal(signal.SIGTERM)
            told = []
            while leaving.process.poll() is None:
                told.append(hosts.publish())
                # Who doesn't ask the next host learns of a drain by asking whether it is ready, each second.
                patience = 0 if self.asks_the_next_host else 3
                until(
                    lambda: answers(proxy.url + POLLING), patience, f"a first request passes: {proxy.written()[-999:]}"
                )
                until(lambda: answers(proxy.url + "/healthz"), patience, "a view answers")
                time.sleep(0.1)
            told += [hosts.publish() for _ in range(2)]
            assert {first(proxy.url)[:2] for _ in range(10)} == {"02"}
            for name, client in everyone.items():
                until(lambda client=client: told[-1] in runs(client), 30, f"{name}: {client.lines[-5:]}")
                assert runs(client) == [before, *told], name
                assert all(line["recovered"] for line in client.connects("/flows")[1:]), (name, client.lines)
            assert any(len(client.connects("/flows")) > 1 for client in everyone.values()), "someone was there"
        leaving.process = leaving._start()
        leaving.wait_ready(60)
        until(lambda: both_hosts(proxy), 30, "the host that is back gets first requests")

    def test_a_host_that_is_full(self, proxy: Proxy, hosts: Hosts) -> None:
        """First requests go to the other host. `/readyz` doesn't tell: whoever is connected there stays."""
        full = Node(HOST_ID="1", SOCKET_MAX_CONNECTIONS="1", REDIS_URL=hosts.redis.url, REDIS_PREFIX="full")
        with stopping(full), contextlib.closing(open_websocket(full.wait_ready(60).url)):
            assert requests.get(full.url + POLLING, timeout=20).status_code == 503
            before = type(proxy)(full.port, hosts.nodes[1].port)
            with stopping(before):
                until(
                    lambda: requests.get(before.url + "/readyz", timeout=20).status_code == 200, 20, "a host is ready"
                )
                if self.asks_the_next_host:
                    # The other one has more connections, so that who goes by that prefers the one that is full.
                    held = []
                    for _ in range(99):
                        # Varnish lets a WebSocket through as it is, and asks nobody else.
                        with contextlib.suppress(websocket.WebSocketBadStatusException):
                            held.append(open_websocket(before.url))
                        if len(held) == 12:
                            break
                    assert len(held) == 12
                    answers = [requests.get(before.url + POLLING, timeout=20) for _ in range(300)]
                    refused = [answer for answer in answers if answer.status_code != 200]
                    for connection in held:
                        connection.close()
                    assert refused == [], (len(refused), refused[0].text[:300])
                else:
                    answers = [requests.get(before.url + POLLING, timeout=20) for _ in range(20)]
                    refused = [answer for answer in answers if answer.status_code != 200]
                    # Clients come back by themselves.
                    assert {answer.status_code for answer in refused} <= {503} and len(refused) < len(answers)

    def test_a_reload(self, proxy: Proxy, hosts: Hosts) -> None:
        with clients(proxy.url) as made:
            all_hear(made, hosts.publish())
            proxy.reload()
            assert first(proxy.url)
            all_hear(made, *(hosts.publish() for _ in range(3)))
            assert disturbances(made) == {}
            # And whoever comes afterwards.
            with clients(proxy.url) as later:
                all_hear({**made, **later}, hosts.publish())

    def test_it_is_killed_and_comes_back(self, proxy: Proxy, hosts: Hosts) -> None:
        with clients(proxy.url) as made:
            all_hear(made, hosts.publish())
            proxy.kill()
            for name, client in made.items():
                until(lambda client=client: client.said("/flows", "disconnect"), 30, f"{name} is cut")
            missed = [hosts.publish() for _ in range(3)]
            proxy.start()
            all_hear(made, *missed, hosts.publish())
            for name, client in made.items():
                # What was missed comes before CONNECT.
                until(lambda client=client: len(client.connects("/flows")) > 1, 10, f"{name} is back")
                assert [line["recovered"] for line in client.connects("/flows")[1:]] == [True], (name, client.lines)


def _seen(packet: str) -> dict[str, Any]:
    """Return the payload of `seen` in one packet."""
    found: dict[str, Any] = json.loads(packet[packet.index("[") :])[1]
    return found
