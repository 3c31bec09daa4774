"""Apache httpd with deploy/apache, and with WebSockets over HTTP/2."""

import os
import signal

import pytest

from tests.proxies.behaviour import Behaviour, Hosts, clients, hosts, proxy  # noqa: F401
from tests.proxies.proxy import PING_INTERVAL, TIMEOUT, Proxy, prefix
from tests.servers import run_js, stopping, until

pytestmark = pytest.mark.thorough

_MODULES = (
    "mpm_event authz_core proxy proxy_http proxy_balancer lbmethod_bybusyness lbmethod_byrequests slotmem_shm headers "
    "rewrite http2 proxy_hcheck"
)
_MAIN = """ServerRoot "{directory}"
DefaultRuntimeDir "{directory}"
PidFile "{directory}/pid"
ErrorLog "{directory}/error.log"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
Protocols h2c http/1.1
H2WebSockets on
Include "{directory}/mintflow.conf"
"""


class Apache(Proxy):
    program = "apache2"
    shipped = {"apache/mintflow.conf": "mintflow.conf"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "10.0.0.1:3000": f"127.0.0.1:{first}",
            "10.0.0.2:3000": f"127.0.0.1:{second}",
            "*:80": f"127.0.0.1:{self.port}",
            "${APACHE_LOG_DIR}": str(self.directory),
            " Timeout 60\n": f" Timeout {TIMEOUT}\n",
            "ProxyTimeout 60\n": f"ProxyTimeout {TIMEOUT}\n",
        }

    def configure(self) -> None:
        super().configure()
        where = prefix(self.binary) / "usr" / "lib" / "apache2" / "modules"
        modules = "\n".join(f'LoadModule {name}_module "{where}/mod_{name}.so"' for name in _MODULES.split())
        main = _MAIN.format(directory=self.directory, port=self.port, modules=modules)
        (self.directory / "apache2.conf").write_text(main)

    def command(self) -> list[str]:
        return [self.binary, "-d", str(self.directory), "-f", str(self.directory / "apache2.conf"), "-DFOREGROUND"]

    def reload(self) -> None:
        self.change("mintflow.conf", "\n# changed\n")
        before = self.written().count("resuming normal operations")
        os.kill(self.process.pid, signal.SIGUSR1)
        until(lambda: self.written().count("resuming normal operations") > before, 20, "Apache has reloaded")


class ShortProxyTimeout(Apache):
    """The longer of both cuts a WebSocket, ProxyTimeout alone a waiting poll."""

    def replacements(self) -> dict[str, str]:
        return {**super().replacements(), "ProxyTimeout 60\n": f"ProxyTimeout {PING_INTERVAL - 3}\n"}


class TestApache(Behaviour):
    proxy_type = Apache
    asks_the_next_host = False

    def test_a_websocket_over_http_2(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        assert run_js("h2_websocket.mjs", f"127.0.0.1:{proxy.port}").startswith('200 0{"sid"')

    def test_a_short_proxy_timeout_cuts_polls_alone(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        short = ShortProxyTimeout(*proxy.hosts)
        with stopping(short), clients(short.url) as made:
            until(lambda: made["polling"].said("/flows", "disconnect"), 30, "a waiting poll ends in 502")
            for name in ("websocket", "upgraded"):
                assert made[name].said("/flows", "disconnect") == []
