"""The gate: a CONNECT passes it with a principal, and a client leaves through it. Ends of tokens come from here too.

What can't be settled now (Redis silent, the tenant's channel not heard yet) is never a refusal, since stock clients
take a refusal as final.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from auth.handshake import tenant_wanted, token_from
from auth.principal import Principal
from fanout.rooms import tenant_room
from namespaces.base import Namespace
from namespaces.clients import Client, Clients
from protocol.errors import Forbidden, RealtimeError, Unavailable
from protocol.session import AuthExpiring
from protocol.times import iso
from services.access import Access

_log = logging.getLogger("mintflow.gate")


class Rooms(Protocol):
    """What the gate needs of this node's rooms."""

    def enter(self, sid: str, namespace: str, room: str) -> None: ...

    def release(self, sid: str, namespace: str) -> None: ...

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None: ...


class Ears(Protocol):
    """What the gate needs of this node's channels."""

    def open(self, tenant: str, namespace: str) -> None: ...

    def close(self, tenant: str, namespace: str) -> None: ...


class Gate:
    """Admits clients, keeps them, and closes the connections of those whose token ended or was revoked.

    `close_transport(eio_sid, reason)` ends a connection; `handler_of(namespace)` returns what was registered there.
    """

    def __init__(
        self,
        access: Access,
        clients: Clients,
        rooms: Rooms,
        ears: Ears,
        handler_of: Callable[[str], Any],
        close_transport: Callable[[str, str], None],
    ) -> None:
        self._access = access
        self.clients = clients
        self._rooms = rooms
        self._ears = ears
        self._handler_of = handler_of
        self._close_transport = close_transport
        self._unchecked: set[str] = set()

    def admit(self, connection: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> None:
        """Settle who connects, and begin to hear the tenant's events.

        Raises AuthenticationError, Forbidden, and Unavailable, also where the tenant's channel isn't confirmed in 2 s.
        """
        principal = self._access.admit(token_from(auth, environ), tenant_wanted(auth, environ), connection)
        self._require_read_scope(namespace, principal)
        self._ears.open(principal.tenant, namespace)
        client = Client(sid, connection, namespace, principal)
        self.clients.add(client)
        try:
            # Once more, now that this node hears of the tenant's revocations: one between the two is in Redis.
            revoked = self._access.revoked([principal])[0]
        except BaseException:
            self.left(sid, namespace)
            raise
        if revoked:
            self.left(sid, namespace)
            raise Unavailable("Revoked while connecting")

    def joined(self, sid: str, namespace: str) -> None:
        """Let a client into its rooms, now that it knows that it is connected."""
        client = self.clients.get(sid, namespace)
        if client is not None:
            self._rooms.enter(sid, namespace, tenant_room(client.principal.tenant))
            handler = self._handler_of(namespace)
            if isinstance(handler, Namespace):
                handler.joined(client)

    def left(self, sid: str, namespace: str) -> None:
        """Forget a client."""
        client = self.clients.remove(sid, namespace)
        if client is None:
            return
        self._ears.close(client.principal.tenant, namespace)
        handler = self._handler_of(namespace)
        if isinstance(handler, Namespace):
            try:
                handler.left(client)
            except RealtimeError as error:
                # What a client held has a TTL, for nodes that are killed; it serves here too.
                _log.warning("%s could not let go of a client: %s", namespace, error)

    def answered(self, sid: str, namespace: str) -> None:
        """Let live events follow the answer that they waited for."""
        self._rooms.release(sid, namespace)

    def refresh(self, client: Client, token: str) -> Principal:
        """Let a client go on under a newer token, and the connection's other namespaces that came with the same one.

        Raises what `Access.refresh` raises, and Forbidden for a token that can't read this namespace.
        """
        before = client.principal
        principal = self._access.refresh(before, token, client.connection)
        self._require_read_scope(client.namespace, principal)
        self.clients.refresh(client, principal)
        for other in self.clients.of_connection(client.connection):
            # The connection would be closed when the old token ends in any of its namespaces.
            if other is not client and other.principal == before:
                with suppress(Forbidden):
                    self._require_read_scope(other.namespace, principal)
                    self.clients.refresh(other, principal)
        return principal

    def tick(self) -> None:
        """Warn clients whose token ends within a minute, and close the connections of ended and revoked ones."""
        for tenant in tuple(self._unchecked):
            self._check_revocations(tenant)
        for client, ended in self.clients.due():
            if ended:
                self._close_transport(client.connection, "token expired")
            else:
                end = iso(round((client.principal.expires_at or 0) * 1000))
                self._rooms.send_to(client.sid, client.namespace, "auth_expiring", AuthExpiring(end))

    def doubt(self, tenant: str) -> None:
        """Hear that something was revoked in a tenant, or may have been: the next tick looks."""
        self._unchecked.add(tenant)

    def _require_read_scope(self, namespace: str, principal: Principal) -> None:
        scope = getattr(self._handler_of(namespace), "read_scope", None)
        if scope is not None:
            principal.require(scope)

    def _check_revocations(self, tenant: str) -> None:
        self._unchecked.discard(tenant)
        clients = [client for client in self.clients.of_tenant(tenant) if client.principal.revocable]
        try:
            answers = self._access.revoked([client.principal for client in clients])
        except Unavailable:
            self._unchecked.add(tenant)
            return
        for client, revoked in zip(clients, answers, strict=True):
            if revoked:
                self._close_transport(client.connection, "revoked")
