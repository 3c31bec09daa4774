"""A real nginx whose `location` is written by a test, on a free port, in a directory of its own, stopped by its id."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.nginx import installed
from tests.servers import free_port, until

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log warn;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  proxy_cache_path {directory}/cache keys_zone=kept:1m;
  {http}
  server {{
    listen 127.0.0.1:{port}{tls};
    {server}
    location / {{
      proxy_pass http://127.0.0.1:{upstream};
      {location}
    }}
  }}
}}
"""


class WrongNginx:
    """nginx before the server on `upstream`, with what a test writes into `http`, `server` and `location`."""

    def __init__(self, upstream: int, location: str, server: str = "", http: str = "", tls: bool = False) -> None:
        binary = installed()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-nginx-"))
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        config = self.directory / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                directory=self.directory,
                user="user root;" if os.geteuid() == 0 else "",
                port=self.port,
                tls=" ssl" if tls else "",
                upstream=upstream,
                location=location,
                server=server,
                http=http,
            )
        )
        command = [binary, "-p", str(self.directory), "-c", str(config), "-e", str(self.directory / "error.log")]
        self.process = subprocess.Popen(command)
        until(self._listens, 10, "nginx listens")

    def _listens(self) -> bool:
        assert self.process.poll() is None, (self.directory / "error.log").read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)
