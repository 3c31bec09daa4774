"""What the gate asks of the rest of a node, and tells it."""

from typing import Any, Protocol

from mintflow_realtime.admission.clients import Client


class TypedNamespace(Protocol):
    """What a namespace is told of its clients; a stock one is told nothing."""

    read_scope: str | None

    def joined(self, client: Client) -> None:
        """Enter the rooms of a newly connected client."""
        ...

    def recovered(self, client: Client, memo: str) -> None:
        """Take up again a client that is back; `memo` is what was kept with its session."""
        ...

    def memo(self, client: Client) -> str:
        """Return what to keep with a client's session."""
        ...

    def left(self, client: Client) -> None:
        """Let go of a client that is gone."""
        ...

    def away(self, client: Client) -> None:
        """Let go of a client that may come back."""
        ...

    def moved(self, client: Client) -> None:
        """Let go of a client that is on another connection already."""
        ...


class ClientRooms(Protocol):
    """What the gate needs of this node's rooms. `joining` is the sid whose first rooms are being entered."""

    joining: str

    def enter(self, sid: str, namespace: str, room: str) -> None: ...

    def end_history(self, sid: str, namespace: str) -> None: ...

    def send_to(self, sid: str, namespace: str, event: str, payload: Any) -> None: ...

    def forget(self, sid: str, namespace: str) -> None: ...

    def get_rooms(self, sid: str, namespace: str) -> list[str]: ...

    def leave(self, sid: str, namespace: str, room: str) -> None: ...


class TenantChannels(Protocol):
    """What the gate needs of this node's channels."""

    def open(self, tenant: str, namespace: str) -> None: ...

    def close(self, tenant: str, namespace: str) -> None: ...
