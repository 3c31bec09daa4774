"""A message of 900 KB each way, on both transports, by the state of a workspace made for that and emptied again."""

import secrets
import time
from collections.abc import Iterator

from mintflow_realtime.cli.client.errors import ClientError, CommandError, Refused
from mintflow_realtime.cli.client.polling import BadAnswer, Polling
from mintflow_realtime.cli.client.socket_io import SocketIo
from mintflow_realtime.cli.probe.context import Probe, failed, ok, warning
from mintflow_realtime.cli.probe.proxies import Fault
from mintflow_realtime.stores.redis.self_check import CheckResult

WANTED = 900_000
# What the command needs around the state.
FRAME = 1000
PATIENCE = 30.0
# Answered, so it has arrived; only what comes back is small then.
_ARRIVED = frozenset({"too_large", "forbidden", "invalid_payload", "unknown_event"})


def check_sizes(probe: Probe, *, websocket: bool) -> Iterator[CheckResult]:
    """Yield what becomes of a large message by polling and, where it opens, by WebSocket."""
    yield _check(probe, "900 KB poll", by_websocket=False)
    if websocket:
        yield _check(probe, "900 KB ws", by_websocket=True)


def _check(probe: Probe, name: str, *, by_websocket: bool) -> CheckResult:
    size = min(WANTED, probe.max_payload - FRAME)
    try:
        client = SocketIo.by_websocket(probe.target) if by_websocket else SocketIo(Polling(probe.target))
    except ClientError as error:
        return failed(name, str(error), "Look at the proxy's log.")
    try:
        return _each_way(client, probe, name, size)
    except BadAnswer as error:
        if error.answer.status == 413:
            return probe.blame(name, f"{size // 1000} KB are answered with 413", Fault.BODY)
        found = f"{size // 1000} KB: a request is answered with {error.answer.status} {error.answer.body.strip()[:80]}"
        return failed(name, found, "Look at the proxy's log.")
    except ClientError as error:
        return probe.blame(name, f"{size // 1000} KB: {error}", Fault.BODY)
    finally:
        client.close()


def _each_way(client: SocketIo, probe: Probe, name: str, size: int) -> CheckResult:
    sent = f"{size // 1000} KB pass"
    workspace = f"mintflow-check-{secrets.token_hex(6)}"
    try:
        client.join("/workspaces", probe.target.auth)
        client.call("/workspaces", "join_workspace", {"workspaceId": workspace})
    except (Refused, CommandError):
        return _one_way(client, probe, name, size)
    try:
        update = {"workspaceId": workspace, "state": {"filling": "x" * size}, "partial": False}
        client.call("/workspaces", "update_workspace", update, PATIENCE)
        # Who is in a workspace hears of its own updates too. To ask for the state as well could make two large
        # messages wait at once, and the server closes a connection whose outbox is full.
        if not _came_back(client, size):
            return failed(name, f"{sent} on the way there, and don't come back", "Look at the proxy's log.")
        return ok(name, f"{sent}, each way")
    except CommandError as error:
        if error.code in _ARRIVED:
            return warning(name, f"{sent} on the way there; the way back was not tried ({error.code})")
        return failed(name, f"the server answers {error.code}: {error}")
    finally:
        _empty(client, workspace)


def _came_back(client: SocketIo, size: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        event = client.next_event(left)
        if event and event.name == "workspace_updated" and len(event.payload["state"].get("filling", "")) == size:
            return True
    return False


def _one_way(client: SocketIo, probe: Probe, name: str, size: int) -> CheckResult:
    """Send it to `/`, which has no commands and says so."""
    try:
        client.join("/", probe.target.auth)
        client.call("/", "check", {"filling": "x" * size}, PATIENCE)
    except CommandError:
        pass
    found = f"{size // 1000} KB pass on the way there; the way back was not tried"
    return warning(name, found, "It needs the scopes workspaces:read and workspaces:write.")


def _empty(client: SocketIo, workspace: str) -> None:
    """Leave nothing but an empty workspace, which ends after WORKSPACE_TTL."""
    try:
        client.call("/workspaces", "update_workspace", {"workspaceId": workspace, "state": {}, "partial": False})
        client.call("/workspaces", "leave_workspace", {"workspaceId": workspace})
    except ClientError:
        pass
