"""The keys of a workspace that its state and its users share, since each prolongs the other's life."""

from mintflow_realtime.protocol.ids import encode_id
from mintflow_realtime.protocol.scripts import Keys


def users_key(keys: Keys, tenant: str, workspace_id: str) -> str:
    """Return the key of a workspace's users: hash of sid and user as JSON text."""
    return users_prefix(keys, tenant) + encode_id(workspace_id)


def state_key(keys: Keys, tenant: str, workspace_id: str) -> str:
    """Return the key of a workspace's state."""
    return state_prefix(keys, tenant) + encode_id(workspace_id)


def users_prefix(keys: Keys, tenant: str) -> str:
    """Return what a workspace's encoded id follows in the key of its users."""
    return keys.of(tenant, "ws-users", "")


def state_prefix(keys: Keys, tenant: str) -> str:
    """Return what a workspace's encoded id follows in the key of its state."""
    return keys.of(tenant, "ws", "")
