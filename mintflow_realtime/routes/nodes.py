"""`/api/v1/nodes`, `/connections` and `/presence`, `/why`: who is there, over all nodes, and who got what."""

from flask import Response

from mintflow_realtime.auth.principal import Principal
from mintflow_realtime.protocol.nodes import CloseQuery, ConnectionQuery, PresenceQuery
from mintflow_realtime.protocol.why import WhyQuery
from mintflow_realtime.routes.answers import answer
from mintflow_realtime.routes.query import path_id, read_query
from mintflow_realtime.services.nodes.connections import Connections
from mintflow_realtime.services.nodes.why import Reasons


class NodeViews:
    """The views of nodes and who is connected to them."""

    def __init__(self, connections: Connections, reasons: Reasons) -> None:
        self._connections, self._reasons = connections, reasons

    def nodes(self, principal: Principal) -> Response:
        """Return all nodes."""
        return answer(self._connections.nodes(principal))

    def page(self, principal: Principal) -> Response:
        """Return a page of connections; a missing `nextAfter` is the end."""
        return answer(self._connections.page(principal, read_query(ConnectionQuery, numbers=("limit",))))

    def presence(self, principal: Principal) -> Response:
        """Return a page of users who are connected."""
        return answer(self._connections.presence(principal, read_query(PresenceQuery, numbers=("limit",))))

    def close(self, principal: Principal, sid: str) -> Response:
        """Close one connection."""
        self._connections.close(principal, path_id(sid, "$.sid"))
        return answer({}, 202)

    def close_user(self, principal: Principal) -> Response:
        """Close all of a user's connections."""
        return answer(self._connections.close_user(principal, read_query(CloseQuery)), 202)

    def why(self, principal: Principal) -> Response:
        """Return what became of an event for a user."""
        return answer(self._reasons.why(principal, read_query(WhyQuery)))
