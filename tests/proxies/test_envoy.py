"""Envoy with deploy/envoy."""

import contextlib

import pytest

from tests.proxies.behaviour import Behaviour, Hosts, clients, first, hosts, open_websocket, proxy  # noqa: F401
from tests.proxies.proxy import PING_INTERVAL, Proxy
from tests.servers import run_js, stopping, until

pytestmark = pytest.mark.thorough


class Envoy(Proxy):
    program = "envoy"
    shipped = {"envoy/envoy.yaml": "envoy.yaml"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "address: 10.0.0.1, port_value: 3000": f"address: 127.0.0.1, port_value: {first}",
            "address: 10.0.0.2, port_value: 3000": f"address: 127.0.0.1, port_value: {second}",
            "address: 0.0.0.0, port_value: 80": f"address: 127.0.0.1, port_value: {self.port}",
        }

    def command(self) -> list[str]:
        # Two on one machine would share memory.
        return [self.binary, "-c", str(self.directory / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "2"]


class DefaultTimeout(Envoy):
    """As short beside the heartbeats here as Envoy's own 15 s are beside 25."""

    def replacements(self) -> dict[str, str]:
        return {**super().replacements(), "timeout: 0s": f"timeout: {PING_INTERVAL - 3}s"}


class AllowsConnect(Envoy):
    def replacements(self) -> dict[str, str]:
        allowed = "http2_protocol_options: {allow_connect: true}"
        websocket = "upgrade_configs: [{upgrade_type: websocket}]"
        return {**super().replacements(), websocket: f"{websocket}\n          {allowed}"}


class TestEnvoy(Behaviour):
    proxy_type = Envoy

    # A static file isn't read again: a change is a new start, as where it is killed.
    test_a_reload = None

    def test_more_connections_than_a_cluster_has_by_default(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        with contextlib.ExitStack() as opened:
            for _ in range(1100):
                opened.enter_context(contextlib.closing(open_websocket(proxy.url)))
            assert first(proxy.url)

    def test_no_websocket_over_http_2(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        """Envoy would make one without a Sec-WebSocket-Key of it; not told of it, browsers use HTTP/1.1."""
        with pytest.raises(AssertionError, match="no extended CONNECT"):
            run_js("h2_websocket.mjs", f"127.0.0.1:{proxy.port}")
        allows = AllowsConnect(*proxy.hosts)
        with stopping(allows):
            assert run_js("h2_websocket.mjs", f"127.0.0.1:{allows.port}").startswith("400 ")

    def test_a_routes_timeout_cuts_polls_alone(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        short = DefaultTimeout(*proxy.hosts)
        with stopping(short), clients(short.url) as made:
            until(lambda: made["polling"].said("/flows", "disconnect"), 30, "a waiting poll ends in 504")
            for name in ("websocket", "upgraded"):
                assert made[name].said("/flows", "disconnect") == []
