"""Varnish with deploy/varnish."""

import pytest

from tests.proxies.behaviour import Behaviour, hosts, proxy  # noqa: F401
from tests.proxies.proxy import TIMEOUT, Proxy, installed, libraries

pytestmark = pytest.mark.thorough


class Varnish(Proxy):
    program = "varnishd"
    shipped = {"varnish/default.vcl": "default.vcl"}

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            '"10.0.0.1"; .port = "3000"': f'"127.0.0.1"; .port = "{first}"',
            '"10.0.0.2"; .port = "3000"': f'"127.0.0.1"; .port = "{second}"',
            "first_byte_timeout = 60s": f"first_byte_timeout = {TIMEOUT}s",
        }

    def command(self) -> list[str]:
        # It compiles what it reads.
        installed("gcc")
        modules = libraries(self.binary) / "varnish" / "vmods"
        jail = ("-j", "none", "-n", f"{self.directory}/n", "-p", f"vmod_path={modules}")
        listens = ("-a", f"127.0.0.1:{self.port}", "-f", f"{self.directory}/default.vcl", "-s", "malloc,32m")
        return [self.binary, "-F", *jail, *listens, "-p", f"pipe_timeout={TIMEOUT}"]

    def reload(self) -> None:
        self.change("default.vcl", "\n# changed\n")
        admin = (self.binary.replace("sbin/varnishd", "bin/varnishadm"), "-n", f"{self.directory}/n")
        self.run(*admin, "vcl.load", "changed", f"{self.directory}/default.vcl")
        self.run(*admin, "vcl.use", "changed")


class TestVarnish(Behaviour):
    proxy_type = Varnish
