"""One connection to Redis while somebody has it: a command, its reply, and which server is at the other end."""

from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import NoPermissionError

from mintflow_realtime.protocol.scripts import Arg


class Exchange:
    """Sends a command and returns its reply, read as redis-py reads it.

    `asking`: each command is for a slot that is on its way to this server of a cluster.
    """

    def __init__(self, connection: Any, callbacks: Mapping[Any, Callable[..., Any]], asking: bool) -> None:
        self._connection = connection
        self._callbacks = callbacks
        self._asking = asking

    def __call__(self, *args: Arg, **reading: float) -> Any:
        """Send one command and return its reply. Raises what redis-py does."""
        connection = self._connection
        if self._asking:
            # It holds for the next command alone; WAIT, which has no key, ignores it.
            connection.send_command("ASKING")
            connection.read_response()
        connection.send_command(*args)
        reply = connection.read_response(**reading)
        callback = self._callbacks.get(args[0])
        return callback(reply) if callback else reply

    def run_id(self) -> str:
        """Return the run_id of the server, asked for once a connection; "" where the user may not know it."""
        connection = self._connection
        socket, run_id = getattr(connection, "mintflow_run", (None, ""))
        # A connection that was broken since has another socket, and perhaps another server.
        if socket is not connection._sock:
            try:
                run_id = str(self("INFO", "server")["run_id"])
            except NoPermissionError:
                return ""
            connection.mintflow_run = (connection._sock, run_id)
        return str(run_id)
