"""Logs and runs read from a server, as any client: by commands, and its events say when to ask again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mintflow_realtime.cli.client.errors import ClientError, Closed, CommandError, NotUpgraded, Refused, Unreached
from mintflow_realtime.cli.client.socket_io import SocketIo
from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.sources.base import Away, Record, Run, RunId

ENDED = frozenset({"completed", "failed", "cancelled", "lost"})
# After an event, others may follow at once: they are read together.
TOGETHER_SECONDS = 0.1


class _Connection:
    """One namespace of one server, connected when it is first needed, and again after each end of the connection."""

    def __init__(self, target: Target, namespace: str) -> None:
        self._target = target
        self._namespace = namespace
        self._client: SocketIo | None = None
        self._has_joined = False

    def call(self, command: str, payload: dict[str, Any]) -> Any:
        """Return a command's answer. Raises Away; Refused and CommandError where that is final."""
        with self._open() as client:
            return client.call(self._namespace, command, payload)

    def next_event(self, seconds: float) -> tuple[str, Any] | None:
        """Return name and payload of the next event within `seconds`. Raises Away, Refused."""
        with self._open() as client:
            event = client.next_event(seconds)
            return (event.name, event.payload) if event else None

    @property
    def is_open(self) -> bool:
        """Tell whether the connection is there; a new one has no subscriptions yet."""
        return self._client is not None

    def close(self) -> None:
        """Close the connection."""
        if self._client:
            self._client.close()
            self._client = None

    @contextmanager
    def _open(self) -> Iterator[SocketIo]:
        try:
            if self._client is None:
                client = SocketIo.by_websocket(self._target)
                try:
                    client.join(self._namespace, self._target.auth)
                except BaseException:
                    client.close()
                    raise
                self._client, self._has_joined = client, True
            yield self._client
        except Refused:
            self.close()
            raise
        except CommandError as error:
            if error.retryable:
                raise Away(f"the server answers {error.code}: {error}") from error
            raise
        except NotUpgraded as error:
            # Where it has worked before, this is a proxy between two servers.
            if error.status < 500 and not self._has_joined:
                raise
            raise Away(f"the server answers {error.status}") from error
        except (Closed, Unreached, ClientError) as error:
            self.close()
            raise Away(str(error)) from error


class SocketLogs:
    """Log records of the connection's tenant."""

    def __init__(self, target: Target, narrowing: dict[str, Any]) -> None:
        """Ask for new records of `narrowing` (flowId, runId, minLevel) alone."""
        self._connection = _Connection(target, "/logs")
        self._narrowing = narrowing

    def page(self, criteria: dict[str, Any]) -> tuple[list[Record], str | None]:
        if not self._connection.is_open and self._narrowing:
            self._connection.call("subscribe_logs", self._narrowing)
        answer = self._connection.call("filter_logs", criteria)
        return answer["logs"], answer.get("nextCursor")

    def wait(self, seconds: float) -> None:
        if self._connection.next_event(seconds):
            time.sleep(TOGETHER_SECONDS)
            while self._connection.next_event(0.001):
                pass

    def close(self) -> None:
        self._connection.close()


class SocketRuns:
    """Runs of the connection's tenant: the one that is asked for, or those that start meanwhile."""

    def __init__(self, target: Target) -> None:
        self._connection = _Connection(target, "/flows")
        self._followed: set[RunId] = set()

    def changed(self, seconds: float) -> set[RunId]:
        was_open = self._connection.is_open
        runs: set[RunId] = set()
        left = seconds
        while event := self._connection.next_event(left):
            payload = event[1] if isinstance(event[1], dict) else {}
            if "runId" in payload:
                runs.add((payload.get("flowId"), payload["runId"]))
            left = 0.001
        # What happened while the connection was away is in the snapshots.
        return runs if was_open else runs | self._followed

    def read(self, run: RunId) -> Run | None:
        flow_id, run_id = run
        wanted = {"runId": run_id} | ({"flowId": flow_id} if flow_id else {})
        found: Run | None = self._connection.call("subscribe_flow", wanted).get("run")
        if found and found["status"] in ENDED:
            self._connection.call("unsubscribe_flow", wanted)
            self._followed.discard(run)
        else:
            self._followed.add(run)
        return found

    def close(self) -> None:
        self._connection.close()
