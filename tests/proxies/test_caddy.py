"""Caddy with deploy/caddy."""

import pytest

from tests.ports import free_port
from tests.proxies.behaviour import Behaviour, Hosts, all_hear, clients, hosts, proxy  # noqa: F401
from tests.proxies.proxy import Proxy
from tests.servers import stopping, until

pytestmark = pytest.mark.thorough


class Caddy(Proxy):
    program = "caddy"
    shipped = {"caddy/Caddyfile": "Caddyfile"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "10.0.0.1:3000": f"127.0.0.1:{first}",
            "10.0.0.2:3000": f"127.0.0.1:{second}",
            "realtime.example.com {": f"http://:{self.port} {{\n\tbind 127.0.0.1",
            "\tlog default {": f"\tadmin 127.0.0.1:{self.admin}\n\tlog default {{",
        }

    def command(self) -> list[str]:
        return [self.binary, "run", "--config", str(self.directory / "Caddyfile")]

    def reload(self) -> None:
        """A file that is the same would change nothing, and close nothing."""
        self.change("Caddyfile", f"\nhttp://127.0.0.1:{free_port()} {{\n\tbind 127.0.0.1\n\trespond ok\n}}\n")
        config = str(self.directory / "Caddyfile")
        self.run(self.binary, "reload", "--config", config, "--address", f"127.0.0.1:{self.admin}")


class ClosesSoon(Caddy):
    def replacements(self) -> dict[str, str]:
        return {**super().replacements(), "stream_close_delay 8h": "stream_close_delay 2s"}


class TestCaddy(Behaviour):
    proxy_type = Caddy

    def test_a_reload_closes_websockets_after_the_delay(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        """And their clients come back as the same."""
        soon = ClosesSoon(*proxy.hosts)
        with stopping(soon), clients(soon.url) as made:
            all_hear(made, hosts.publish())
            soon.reload()
            all_hear(made, hosts.publish())
            for name in ("websocket", "upgraded"):
                assert made[name].said("/flows", "disconnect") == []
            for name in ("websocket", "upgraded"):
                until(lambda name=name: made[name].said("/flows", "disconnect"), 20, f"{name} is closed")
            all_hear(made, *(hosts.publish() for _ in range(2)))
            for name in ("websocket", "upgraded"):
                assert [line["recovered"] for line in made[name].connects("/flows")[1:]] == [True]
            assert made["polling"].said("/flows", "disconnect") == []
