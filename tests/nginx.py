"""A real nginx in front of nodes: on free ports, in a directory of its own, stopped by process id."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import requests

from tests.ports import free_port
from tests.servers import until

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  map $http_upgrade $upgrade_or_keep {{ default upgrade; '' ''; }}
  upstream nodes {{ {servers} keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 4m;
    large_client_header_buffers 4 16k;
    location / {{
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upgrade_or_keep;
      proxy_buffering off;
      proxy_read_timeout 90s;
    }}
  }}
  # A proxy of the old kind, which passes no WebSocket on.
  server {{
    listen 127.0.0.1:{plain_port};
    location / {{
      proxy_pass http://nodes;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
    }}
  }}
}}
"""


def installed() -> str:
    """Return the installed nginx; without one a test is skipped, but fails in CI."""
    found = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is missing: run `make setup`")
        pytest.skip("nginx is missing: run `make setup`")
    return found


class Nginx:
    """`url` is served by the nodes on `ports`, over kept-alive connections; `plain_url` without WebSockets."""

    def __init__(self, *ports: int) -> None:
        binary = installed()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-nginx-"))
        port, plain_port = free_port(), free_port()
        self.url, self.plain_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{plain_port}"
        config = self.directory / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                directory=self.directory,
                # Its workers, else nobody's, could not write into our directory.
                user="user root;" if os.geteuid() == 0 else "",
                servers=" ".join(f"server 127.0.0.1:{one};" for one in ports),
                port=port,
                plain_port=plain_port,
            )
        )
        command = [binary, "-p", str(self.directory), "-c", str(config), "-e", str(self.directory / "error.log")]
        self.process = subprocess.Popen(command)
        until(self._answers, 10, "nginx answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.errors()
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + "/healthz", timeout=3).ok
        return False

    def errors(self) -> str:
        path = self.directory / "error.log"
        return path.read_text() if path.exists() else ""

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)
