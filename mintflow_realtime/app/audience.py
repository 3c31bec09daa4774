"""Whom a node delivers to: its clients, and those who follow by server-sent events."""

from mintflow_realtime.fanout.deliver.followers import Followers
from mintflow_realtime.fanout.deliver.manager import Manager
from mintflow_realtime.protocol.envelope import Announcement


class Audience:
    """Passes on to both what was heard, in one step."""

    def __init__(self, clients: Manager, followers: Followers) -> None:
        self._clients, self._followers = clients, followers

    def deliver(self, namespace: str, announcement: Announcement) -> None:
        """Send an event to everybody in any of its rooms."""
        self._clients.deliver(namespace, announcement)
        self._followers.deliver(namespace, announcement)

    def tell_lost(self, tenant: str, namespace: str, reason: str) -> None:
        """Tell a tenant's that continuity ended."""
        self._clients.tell_lost(tenant, namespace, reason)
        self._followers.tell_lost(tenant, namespace, reason)
