"""Traefik with deploy/traefik."""

import contextlib

import pytest
import requests

from tests.proxies.behaviour import Behaviour, hosts, proxy  # noqa: F401
from tests.proxies.proxy import Proxy
from tests.servers import until

pytestmark = pytest.mark.thorough

# Something that is seen from outside once the file has been read again.
_ADDED = """  routers:
    changed:
      rule: "Path(`/changed`)"
      service: mintflow
      middlewares: [changed]
"""
_CHANGED = """  middlewares:
    changed:
      redirectRegex: {regex: ".*", replacement: "/healthz"}
"""


class Traefik(Proxy):
    program = "traefik"
    shipped = {"traefik/traefik.yml": "traefik.yml", "traefik/mintflow.yml": "mintflow.yml"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "10.0.0.1:3000": f"127.0.0.1:{first}",
            "10.0.0.2:3000": f"127.0.0.1:{second}",
            '":80"': f'"127.0.0.1:{self.port}"',
            "/etc/traefik/": f"{self.directory}/",
        }

    def configure(self) -> None:
        super().configure()
        # It would ask the network.
        self.change("traefik.yml", "\nglobal: {checkNewVersion: false, sendAnonymousUsage: false}\n")

    def command(self) -> list[str]:
        return [self.binary, f"--configfile={self.directory}/traefik.yml"]

    def reload(self) -> None:
        path = self.directory / "mintflow.yml"
        text = path.read_text().replace("  routers:\n", _ADDED).replace("  middlewares:\n", _CHANGED, 1)
        path.write_text(text)
        until(self._has_changed, 20, "Traefik has read its file again")

    def _has_changed(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + "/changed", allow_redirects=False, timeout=5).status_code == 302
        return False


class TestTraefik(Behaviour):
    proxy_type = Traefik
