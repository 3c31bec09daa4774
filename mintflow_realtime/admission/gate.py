"""The gate: a CONNECT passes it with a principal, and a client leaves through it.

What can't be settled now (Redis silent, the tenant's channel not heard yet) is never a refusal, since stock clients
take a refusal as final.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.protocols import ClientRooms, TenantChannels, TypedNamespace
from mintflow_realtime.admission.recovery import SessionRecovery
from mintflow_realtime.admission.validity import Validity
from mintflow_realtime.auth.handshake import tenant_wanted, token_from
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.fanout.rooms import tenant_room
from mintflow_realtime.protocol.errors import Forbidden, RealtimeError, Unavailable
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog

_log = logging.getLogger("mintflow.gate")


class Gate(Validity):
    """Admits clients, keeps them, and closes the connections of those whose token ended or was revoked.

    `close_transport(eio_sid, reason)` ends a connection; `handler_of(namespace)` returns the typed namespace of that
    name. Without `recovery` no client recovers.
    """

    def __init__(
        self,
        access: Access,
        clients: Clients,
        rooms: ClientRooms,
        channels: TenantChannels,
        handler_of: Callable[[str], TypedNamespace | None],
        close_transport: Callable[[str, str], None],
        recovery: SessionRecovery | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        super().__init__(access, clients, rooms, handler_of, close_transport, recovery, access_log)
        self.on_taken: Callable[[Client], None] = lambda client: None
        self.close_when_heard: Callable[[str, str, Callable[[], None]], None] | None = None
        if recovery is not None:
            recovery.drop, recovery.memo_of = self._drop, self._memo_of
        self._channels = channels

    def admit(self, connection: str, sid: str, namespace: str, environ: dict[str, Any], auth: Any) -> str:
        """Settle who connects, and subscribe to its tenant. Return its sid: another where a session goes on.

        Raises AuthenticationError, Forbidden, and Unavailable, also where the tenant's channel isn't confirmed in 2 s.
        """
        principal = self._access.admit(token_from(auth, environ), tenant_wanted(auth, environ), connection)
        try:
            self._require_read_scope(namespace, principal)
        except Forbidden as error:
            error.who = (principal.user_id, principal.tenant)
            raise
        self._channels.open(principal.tenant, namespace)
        try:
            client = self._client(connection, sid, namespace, principal, auth)
        except BaseException:
            self._channels.close(principal.tenant, namespace)
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
        begun = self._recovery.begin(principal, sid, namespace, auth) if self._recovery is not None else None
        if begun is None or self._recovery is None:
            return Client(sid, connection, namespace, principal)
        # No switch from here until the client is in the tables.
        self._recovery.adopt(sid, begun.session)
        return Client(
            begun.session.sid,
            connection,
            namespace,
            begun.principal,
            recovery=begun.session,
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
        if client.recovery is None or self._recovery is None:
            return {}
        handler = self._handler_of(namespace)
        self._recovery.replay(client, partial(getattr(handler, "instead", _nothing_instead), client))
        return {"pid": client.recovery.pid}

    def joined(self, sid: str, namespace: str) -> None:
        """Let a client into its rooms, now that it knows that it is connected."""
        client = self.clients.get(sid, namespace)
        if client is None:
            return
        handler = self._handler_of(namespace)
        if client.recovered:
            if handler is not None:
                handler.recovered(client, client.memo)
        else:
            self._rooms.joining = sid
            try:
                self._rooms.enter(sid, namespace, tenant_room(client.principal.tenant))
                if handler is not None:
                    handler.joined(client)
            finally:
                self._rooms.joining = ""
        if self._recovery is not None:
            self._recovery.announce(client, client.resync)

    def left(self, sid: str, namespace: str, connection: str | None = None, *, for_good: bool = False) -> None:
        """Forget a client, of `connection` if that is given; `for_good` where it said so itself."""
        client = self.clients.get(sid, namespace)
        if client is None or connection not in (None, client.connection):
            return
        self.clients.remove(sid, namespace)
        self._channels.close(client.principal.tenant, namespace)
        how = "left" if self._recovery is None else self._recovery.left(client, for_good=for_good)
        handler = self._handler_of(namespace)
        if handler is not None:
            try:
                getattr(handler, how)(client)
            except RealtimeError as error:
                # What a client held has a TTL, for nodes that are killed; it serves here too.
                _log.warning("%s could not let go of a client: %s", namespace, error)

    def _drop(self, client: Client) -> None:
        """Close a connection whose client goes on with another, with all its namespaces."""
        self.on_taken(client)
        session, recovery = client.recovery, self._recovery
        if session is None or recovery is None or self.close_when_heard is None:
            self._close_transport(client.connection, "recovered")
        else:
            # Whether it is there still tells a duplicated tab from a connection that was cut.
            self.close_when_heard(client.connection, "recovered", partial(recovery.taken_alive, session))
        if self.clients.get(client.sid, client.namespace) is client:
            # It is about to connect, or to leave: what it does later does nothing.
            self._rooms.forget(client.sid, client.namespace)
            self.left(client.sid, client.namespace, client.connection)

    def _memo_of(self, client: Client) -> str:
        handler = self._handler_of(client.namespace)
        return handler.memo(client) if handler is not None else ""

    def save_changes(self, client: Client) -> None:
        """Save what a command changed of a client's session, before it is answered. Raises Unavailable."""
        if self._recovery is not None:
            self._recovery.save_changes(client)

    def rooms_of(self, client: Client) -> list[str]:
        """Return a client's rooms, its own among them."""
        return self._rooms.get_rooms(client.sid, client.namespace)

    def restore_rooms(self, client: Client, rooms: list[str]) -> None:
        """Let a client be in `rooms` again, and in no others; where it is still here."""
        now = self.rooms_of(client)
        for room in now:
            if room not in rooms:
                self._rooms.leave(client.sid, client.namespace, room)
        for room in rooms:
            if now and room not in now:
                self._rooms.enter(client.sid, client.namespace, room)

    def tell(self, client: Client, event: str, payload: Any) -> None:
        """Send an event to one client."""
        self._rooms.send_to(client.sid, client.namespace, event, payload)

    def answered(self, sid: str, namespace: str) -> None:
        """Let live events follow the answer that they waited for."""
        self._rooms.end_history(sid, namespace)


def _nothing_instead(client: Client, room: str, arguments: str) -> tuple[str, int]:
    raise LookupError(f"{client.namespace} has nothing to tell in place of updates in {room}")
