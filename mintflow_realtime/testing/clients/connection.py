"""How a test's client gets its connection: by the transports that it was given, in their order."""

import http.client
from collections.abc import Mapping, Sequence

from wsproto.utilities import ProtocolError

from mintflow_realtime.testing.clients.engine import Connection, NotConnected
from mintflow_realtime.testing.clients.polling import Polling
from mintflow_realtime.testing.clients.websocket import WebSocket


def connect(
    url: str,
    path: str,
    transports: Sequence[str],
    headers: Mapping[str, str],
    query: Mapping[str, str],
    seconds: float,
) -> Connection:
    """Open a connection by the first of `transports`; polling is upgraded where the second is websocket.

    Each step takes at most `seconds`. Raises NotConnected.
    """
    try:
        if transports[0] == "websocket":
            return WebSocket(url, path, headers, query, seconds)
        polling = Polling(url, path, headers, query, seconds)
        if "websocket" in transports and "websocket" in polling.opened["upgrades"]:
            return polling.upgrade()
        return polling
    except (OSError, ValueError, KeyError, http.client.HTTPException, ProtocolError) as error:
        if isinstance(error, NotConnected):
            raise
        raise NotConnected(f"{type(error).__name__}: {error}") from error
