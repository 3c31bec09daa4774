"""HAProxy with deploy/haproxy."""

import signal

import pytest

from tests.proxies.behaviour import Behaviour, Hosts, clients, hosts, proxy  # noqa: F401
from tests.proxies.proxy import PING_INTERVAL, TIMEOUT, Proxy
from tests.servers import run_js, stopping, until

pytestmark = pytest.mark.thorough


class HAProxy(Proxy):
    program = "haproxy"
    shipped = {"haproxy/haproxy.cfg": "haproxy.cfg"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "10.0.0.1:3000": f"127.0.0.1:{first}",
            "10.0.0.2:3000": f"127.0.0.1:{second}",
            "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
            # Of the descriptors that a test may have.
            "maxconn 50000": "maxconn 500",
            "timeout client 60s": f"timeout client {TIMEOUT}s",
            "timeout server 60s": f"timeout server {TIMEOUT}s",
            "timeout tunnel 60s": f"timeout tunnel {TIMEOUT}s",
        }

    def command(self) -> list[str]:
        return [self.binary, "-W", "-f", str(self.directory / "haproxy.cfg")]

    def reload(self) -> None:
        before = self.written().count("Loading success")
        self.change("haproxy.cfg", "\n# changed\n")
        self.process.send_signal(signal.SIGUSR2)
        until(lambda: self.written().count("Loading success") > before, 20, "HAProxy has reloaded")


class ShortServerTimeout(HAProxy):
    """As many write it, trusting in `timeout tunnel`."""

    def replacements(self) -> dict[str, str]:
        return {**super().replacements(), "timeout server 60s": f"timeout server {PING_INTERVAL - 3}s"}


class TestHAProxy(Behaviour):
    proxy_type = HAProxy

    def test_a_websocket_over_http_2(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        assert run_js("h2_websocket.mjs", f"127.0.0.1:{proxy.port}").startswith('200 0{"sid"')

    def test_timeout_tunnel_does_nothing_for_polls(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        short = ShortServerTimeout(*proxy.hosts)
        with stopping(short), clients(short.url) as made:
            until(lambda: made["polling"].said("/flows", "disconnect"), 30, "a waiting poll ends in 504")
            for name in ("websocket", "upgraded"):
                assert made[name].said("/flows", "disconnect") == []
