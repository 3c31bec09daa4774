"""nginx with deploy/nginx, and the site that Debian puts beside it."""

import os
import subprocess
from pathlib import Path

import requests

from tests.proxies.behaviour import Behaviour, Hosts, hosts, proxy  # noqa: F401
from tests.proxies.proxy import TIMEOUT, Proxy

_MAIN = """daemon off;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
worker_processes 2;
worker_shutdown_timeout 1h;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/mintflow.conf;
    include {directory}/sites/*;
}}
"""
# What is in Debian's /etc/nginx/sites-enabled/default.
_DEBIAN = "server { listen 127.0.0.1:%d default_server; root /var/www/html; server_name _; location / { return 404; } }"


class Nginx(Proxy):
    program = "nginx"
    shipped = {"nginx/mintflow.conf": "mintflow.conf"}

    def configure(self) -> None:
        super().configure()
        (self.directory / "sites").mkdir(exist_ok=True)
        # Its workers, else nobody's, could not write into our directory.
        user = "user root;" if os.geteuid() == 0 else ""
        (self.directory / "nginx.conf").write_text(_MAIN.format(directory=self.directory, user=user))

    def replacements(self) -> dict[str, str]:
        first, second = self.hosts
        return {
            "10.0.0.1:3000": f"127.0.0.1:{first}",
            "10.0.0.2:3000": f"127.0.0.1:{second}",
            "listen 80 default_server;": f"listen 127.0.0.1:{self.port} default_server;",
            "/var/log/nginx/": f"{self.directory}/",
            "timeout 60s;": f"timeout {TIMEOUT}s;",
        }

    def command(self) -> list[str]:
        where = str(self.directory)
        return [self.binary, "-p", where, "-c", f"{where}/nginx.conf", "-e", f"{where}/start.log"]

    def reload(self) -> None:
        self.run(*self.command(), "-s", "reload")


class TestNginx(Behaviour):
    proxy_type = Nginx

    def test_every_name_is_ours(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        for name in ("realtime.example.com", "localhost", "192.0.2.1:8080"):
            assert requests.get(proxy.url + "/healthz", headers={"Host": name}, timeout=20).status_code == 200

    def test_beside_debians_site_it_says_so(self, proxy: Proxy, hosts: Hosts) -> None:  # noqa: F811
        """Instead of a start after which every name that is asked for gets that site's 404."""
        site = Path(proxy.directory) / "sites" / "default"
        site.write_text(_DEBIAN % proxy.port)
        try:
            done = subprocess.run([*proxy.command(), "-t"], capture_output=True, text=True, timeout=30)
        finally:
            site.unlink()
        assert done.returncode != 0
        assert f"a duplicate default server for 127.0.0.1:{proxy.port}" in done.stderr
