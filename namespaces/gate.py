"""The gate: a CONNECT passes it with a principal, and a client leaves through it. Ends of tokens come from here too.

What can't be settled now (Redis silent, the tenant's channel not heard yet) is never a refusal, since stock clients
take a refusal as final.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from auth.handshake import tenant_wanted, token_from
from auth.principal import Principal
from fanout.rooms import tenant_room
from namespaces.base import Namespace
from namespaces.clients import Client, Clients
from namespaces.returns import Returns
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

    def forget(self, sid: str, namespace: str) -> None: ...


class Ears(Protocol):
    """What the gate needs of this node's channels."""

    def open(self, tenant: str, namespace: str) -> None: ...

    def close(self, tenant: str, namespace: str) -> None: ...


class Gate:
    """Admits clients, keeps them, and closes the connections of those whose token ended or was revoked.

    `close_transport(eio_sid, reason)` ends a connection; `handler_of(namespace)` returns what was registered there.
    Without `returns` no client recovers.
    """

    def __init__(
        self,
        access: Access,
        clients: Clients,
        rooms: Rooms,
        ears: Ears,
        handler_of: Callable[[str], Any],
        close_transport: Callable[[str, str], None],
        returns: Returns | None = None,
    ) -> None:
        self._returns = returns
        if returns is not None:
            returns.drop, returns.memo_of = self._drop, self._memo_of
        self._access = access
        self.clients = clients
        self._rooms = rooms
        self._ears = ears
        self._handler_of = handler_of
        self._close_transport = close_transport
        self._unchecked: set[str] = set()

    def admit(self, connection: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> str:
        """Settle who connects, and begin to hear the tenant's events. Return its sid: another where a session goes on.

        Raises AuthenticationError, Forbidden, and Unavailable, also where the tenant's channel isn't confirmed in 2 s.
        """
        principal = self._access.admit(token_from(auth, environ), tenant_wanted(auth, environ), connection)
        self._require_read_scope(namespace, principal)
        self._ears.open(principal.tenant, namespace)
        try:
            client = self._client(connection, sid, namespace, principal, auth)
        except BaseException:
            self._ears.close(principal.tenant, namespace)
            raise
        self.clients.add(client)
        try:
            # Once more, now that this node hears of the tenant's revocations: one between the two is in Redis.
            if self._access.revoked([client.principal])[0]:
                raise Unavailable("Revoked while connecting")
        except BaseException:
            # By its session's sid, which the transport doesn't know yet.
            self._rooms.forget(client.sid, namespace)
            self.left(client.sid, namespace, connection)
            raise
        return client.sid

    def _client(self, connection: str, sid: str, namespace: str, principal: Principal, auth: Any) -> Client:
        begun = self._returns.begin(principal, sid, namespace, auth) if self._returns is not None else None
        if begun is None or self._returns is None:
            return Client(sid, connection, namespace, principal)
        # No switch from here until the client is in the tables.
        self._returns.adopt(sid, begun.session)
        return Client(
            begun.session.sid,
            connection,
            namespace,
            begun.principal,
            session=begun.session,
            missed=begun.missed,
            recovered=begun.missed is not None,
            memo=begun.memo,
            resync=begun.resync,
            shown=begun.shown,
        )

    def prepare(self, sid: str, namespace: str) -> dict[str, Any]:
        """Send what a client that goes on has missed; return what CONNECT says beside its sid. May block.

        After the last of it nothing else runs until this returns. Raises Unavailable.
        """
        client = self.clients.get(sid, namespace)
        if client is None:
            raise Unavailable("The client is gone again")
        if client.session is None or self._returns is None:
            return {}
        handler = self._handler_of(namespace)
        self._returns.replay(client, partial(getattr(handler, "instead", _nothing_instead), client))
        return {"pid": client.session.pid}

    def joined(self, sid: str, namespace: str) -> None:
        """Let a client into its rooms, now that it knows that it is connected."""
        client = self.clients.get(sid, namespace)
        if client is None:
            return
        handler = self._handler_of(namespace)
        if client.recovered:
            if isinstance(handler, Namespace):
                handler.recovered(client, client.memo)
        else:
            self._rooms.enter(sid, namespace, tenant_room(client.principal.tenant))
            if isinstance(handler, Namespace):
                handler.joined(client)
        if self._returns is not None:
            self._returns.welcome(client, client.resync)

    def left(self, sid: str, namespace: str, connection: str | None = None, *, for_good: bool = False) -> None:
        """Forget a client, of `connection` if that is given; `for_good` where it said so itself."""
        client = self.clients.get(sid, namespace)
        if client is None or connection not in (None, client.connection):
            return
        self.clients.remove(sid, namespace)
        self._ears.close(client.principal.tenant, namespace)
        how = "left" if self._returns is None else self._returns.left(client, for_good=for_good)
        handler = self._handler_of(namespace)
        if isinstance(handler, Namespace):
            try:
                getattr(handler, how)(client)
            except RealtimeError as error:
                # What a client held has a TTL, for nodes that are killed; it serves here too.
                _log.warning("%s could not let go of a client: %s", namespace, error)

    def _drop(self, client: Client) -> None:
        """Close a connection whose client goes on with another, with all its namespaces."""
        self._close_transport(client.connection, "recovered")
        if self.clients.get(client.sid, client.namespace) is client:
            # It is about to connect, or to leave: what it does later does nothing.
            self._rooms.forget(client.sid, client.namespace)
            self.left(client.sid, client.namespace, client.connection)

    def _memo_of(self, client: Client) -> str:
        handler = self._handler_of(client.namespace)
        return handler.memo(client) if isinstance(handler, Namespace) else ""

    def settle(self, client: Client) -> None:
        """Save what a command changed of a client's session, before it is answered. Raises Unavailable."""
        if self._returns is not None:
            self._returns.settle(client)

    def tell(self, client: Client, event: str, payload: Any) -> None:
        """Send an event to one client."""
        self._rooms.send_to(client.sid, client.namespace, event, payload)

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
        self._renew(client, principal)
        for other in self.clients.of_connection(client.connection):
            # The connection would be closed when the old token ends in any of its namespaces.
            if other is not client and other.principal == before:
                with suppress(Forbidden):
                    self._require_read_scope(other.namespace, principal)
                    self._renew(other, principal)
        return principal

    def _renew(self, client: Client, principal: Principal) -> None:
        self.clients.refresh(client, principal)
        if self._returns is not None:
            self._returns.touch(client)

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


def _nothing_instead(client: Client, room: str, arguments: str) -> tuple[str, int]:
    raise LookupError(f"{client.namespace} has nothing to tell in place of updates in {room}")
