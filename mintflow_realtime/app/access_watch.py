"""What is logged and counted of sockets: who came into a namespace, who was refused, who left and why."""

from time import monotonic
from typing import Any

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.lives import ClientLives
from mintflow_realtime.metrics.counting import OTHER
from mintflow_realtime.metrics.series import CONNECTIONS, CONNECTS, REFUSALS, UPGRADES
from mintflow_realtime.protocol.errors import CODES
from mintflow_realtime.services.access_log import AccessLog
from mintflow_realtime.transport.socket_io.server import SocketServer


class AccessWatch:
    """Told by `sockets`, the transport."""

    def __init__(self, log: AccessLog, clients: Clients, sockets: SocketServer) -> None:
        self._log, self._clients, self._sockets = log, clients, sockets
        self.lives: ClientLives | None = None
        # Of each connection in each namespace, since when, from where and over which transport.
        self._here: dict[tuple[str, str], tuple[float, str | None, str]] = {}

    def connected(self, eio_sid: str, sid: str, namespace: str) -> None:
        """Note that a client is in a namespace."""
        address, transport = self._address(eio_sid), self._sockets.eio.transport(eio_sid)
        self._here[eio_sid, namespace] = (monotonic(), address, transport)
        CONNECTS.add(namespace)
        CONNECTIONS.add(1, transport, namespace)
        client = self._clients.get(sid, namespace)
        if client is not None and self.lives is not None:
            self.lives.connected(client)
        user, tenant = self._who(sid, namespace)
        self._log.note("connected", sid=sid, user=user, tenant=tenant, namespace=namespace, address=address)

    def here(self, eio_sid: str, namespace: str) -> tuple[float, str | None] | None:
        """Return for how many seconds a client is in a namespace, and its address; None where it isn't."""
        found = self._here.get((eio_sid, namespace))
        return None if found is None else (monotonic() - found[0], found[1])

    def refused(self, eio_sid: str, namespace: str, answer: Any, who: tuple[str | None, str | None]) -> None:
        """Note a CONNECT that was refused with `answer`, the payload of CONNECT_ERROR."""
        message, code = answer, None
        if isinstance(answer, dict):
            message, data = answer.get("message"), answer.get("data")
            code = data.get("code") if isinstance(data, dict) else None
        user, tenant = who
        # Anybody may ask for a namespace of any name.
        known = namespace in self._sockets.namespace_handlers or namespace in self._sockets.handlers
        REFUSALS.add(namespace if known else OTHER, code if code in CODES else OTHER)
        if user is not None and tenant is not None and self.lives is not None:
            self.lives.refused(namespace, tenant, user, code or "")
        self._log.note(
            "refused",
            user=user,
            tenant=tenant,
            namespace=namespace,
            address=self._address(eio_sid),
            code=code,
            reason=message if isinstance(message, str) else None,
        )

    def leaving(self, eio_sid: str, sid: str, namespace: str, reason: str) -> None:
        """Note that a client leaves; called before anything forgets it."""
        here = self._gone(eio_sid, namespace)
        if here is None:
            return
        began, address, _ = here
        client = self._clients.get(sid, namespace)
        if client is not None and self.lives is not None:
            self.lives.closed(client, reason)
        user, tenant = self._who(sid, namespace)
        self._log.note(
            "closed",
            sid=sid,
            user=user,
            tenant=tenant,
            namespace=namespace,
            address=address,
            reason=reason,
            duration=round(monotonic() - began, 3),
        )

    def taken(self, client: Client) -> None:
        """Note that a client goes on with another connection; nothing has forgotten it yet."""
        self.leaving(client.connection, client.sid, client.namespace, "taken over")

    def upgraded(self, eio_sid: str) -> None:
        """Note that a session went over from polling to a WebSocket."""
        UPGRADES.value += 1
        for namespace in self._namespaces():
            here = self._here.get((eio_sid, namespace))
            if here is not None:
                CONNECTIONS.add(-1, here[2], namespace)
                CONNECTIONS.add(1, "websocket", namespace)
                self._here[eio_sid, namespace] = (*here[:2], "websocket")

    def ended(self, eio_sid: str) -> None:
        """Note that a connection has ended, and all its clients have left."""
        if self.lives is not None:
            self.lives.ended(eio_sid)
        for namespace in self._namespaces():
            self._gone(eio_sid, namespace)

    def _gone(self, eio_sid: str, namespace: str) -> tuple[float, str | None, str] | None:
        here = self._here.pop((eio_sid, namespace), None)
        if here is not None:
            CONNECTIONS.add(-1, here[2], namespace)
        return here

    def _namespaces(self) -> set[str]:
        return {*self._sockets.namespace_handlers, *self._sockets.handlers}

    def _address(self, eio_sid: str) -> str | None:
        environ = self._sockets.environ.get(eio_sid)
        return None if environ is None else environ.text("REMOTE_ADDR") or None

    def _who(self, sid: str, namespace: str) -> tuple[str | None, str | None]:
        client = self._clients.get(sid, namespace)
        return (None, None) if client is None else (client.principal.user_id, client.principal.tenant)
