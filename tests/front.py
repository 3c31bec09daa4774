"""A real nginx with deploy/nginx/mintflow.conf before two hosts, on a free port, stopped by process id."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import requests

from tests.ports import free_port
from tests.servers import ROOT, Node, until

_MAIN = """daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
worker_processes 2;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/mintflow.conf;
}}
"""


class Front:
    """nginx before the hosts `first` and `second`, whose HOST_ID is 1 and 2."""

    def __init__(self, first: Node, second: Node) -> None:
        binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if binary is None:
            if os.environ.get("CI"):
                raise AssertionError("nginx is missing: run `make setup`")
            import pytest

            pytest.skip("nginx is missing: run `make setup`")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.directory = Path(tempfile.mkdtemp(prefix="mf-nginx-"))
        text = (ROOT / "deploy" / "nginx" / "mintflow.conf").read_text()
        for written, ours in (
            ("10.0.0.1:3000", f"127.0.0.1:{first.port}"),
            ("10.0.0.2:3000", f"127.0.0.1:{second.port}"),
            ("listen 80 default_server;", f"listen 127.0.0.1:{port} backlog=1024;"),
            # The tests want to see them, in error.log.
            ("error_log /var/log/nginx/mintflow.log crit;", ""),
        ):
            assert written in text, f"deploy/nginx/mintflow.conf has no {written}"
            text = text.replace(written, ours)
        (self.directory / "mintflow.conf").write_text(text)
        (self.directory / "nginx.conf").write_text(_MAIN.format(directory=self.directory))
        with open(self.directory / "out", "ab") as out:
            command = [binary, "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        until(self._answers, 10, "nginx answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.directory / "out").read_text()
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.url + "/healthz", timeout=2).status_code == 200
        return False

    def errors(self) -> str:
        """Return what nginx has to complain of."""
        return (self.directory / "error.log").read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)
