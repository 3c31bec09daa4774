"""How long a client may stay: its token is renewed or ends, its scopes change, or somebody revokes it."""

from collections.abc import Callable
from contextlib import suppress

from mintflow_realtime.admission.clients import Client, Clients
from mintflow_realtime.admission.protocols import ClientRooms, TypedNamespace
from mintflow_realtime.admission.recovery import SessionRecovery
from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.errors import Forbidden, RealtimeError, Unavailable
from mintflow_realtime.protocol.session import AuthExpiring
from mintflow_realtime.protocol.times import iso
from mintflow_realtime.services.access import Access
from mintflow_realtime.services.access_log import AccessLog


class Validity:
    """Closes the connections of those whose token ended or was revoked. The arguments are those of `Gate`."""

    def __init__(
        self,
        access: Access,
        clients: Clients,
        rooms: ClientRooms,
        handler_of: Callable[[str], TypedNamespace | None],
        close_transport: Callable[[str, str], None],
        recovery: SessionRecovery | None,
        access_log: AccessLog | None,
    ) -> None:
        self._access, self._access_log = access, access_log
        self.clients, self._rooms = clients, rooms
        self._handler_of, self._close_transport = handler_of, close_transport
        self._recovery = recovery
        self._unchecked: set[str] = set()

    def refresh(self, client: Client, token: str) -> Principal:
        """Let a client go on under a newer token, and the connection's other namespaces that came with the same one.

        Raises what `Access.refresh` raises, and Forbidden for a token that can't read this namespace.
        """
        before = client.principal
        try:
            principal = self._access.refresh(before, token, client.connection)
            self._require_read_scope(client.namespace, principal)
        except RealtimeError as error:
            self._note_refused(client, error)
            raise
        self._renew(client, principal)
        for other in self.clients.of_connection(client.connection):
            # The connection would be closed when the old token ends in any of its namespaces.
            if other is not client and other.principal == before:
                with suppress(Forbidden):
                    self._require_read_scope(other.namespace, principal)
                    self._renew(other, principal)
        return principal

    def _note_refused(self, client: Client, error: RealtimeError) -> None:
        if self._access_log is not None:
            self._access_log.note(
                "refused",
                sid=client.sid,
                user=client.principal.user_id,
                tenant=client.principal.tenant,
                namespace=client.namespace,
                code=error.code,
                reason=error.message,
            )

    def _renew(self, client: Client, principal: Principal) -> None:
        self.clients.refresh(client, principal)
        if self._recovery is not None:
            self._recovery.touch(client)

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

    def recheck_revocations(self, tenant: str) -> None:
        """Note that something was revoked in a tenant, or may have been: the next tick looks."""
        self._unchecked.add(tenant)

    def _require_read_scope(self, namespace: str, principal: Principal) -> None:
        handler = self._handler_of(namespace)
        if handler is not None and handler.read_scope is not None:
            principal.require(handler.read_scope)

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
