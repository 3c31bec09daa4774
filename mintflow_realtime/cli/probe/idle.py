"""How long a connection lives that carries nothing but heartbeats: a WebSocket, and beside it a waiting poll."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mintflow_realtime.cli.client.errors import ClientError, Closed
from mintflow_realtime.cli.client.polling import BadAnswer, Polling
from mintflow_realtime.cli.client.socket_io import SocketIo, Transport
from mintflow_realtime.cli.client.websocket import WebSocket
from mintflow_realtime.cli.probe.context import Probe, failed, ok
from mintflow_realtime.cli.probe.proxies import Fault
from mintflow_realtime.stores.redis.self_check import CheckResult

# How much later than its time the first heartbeat may come.
SLACK = 2.0


def check_idle(probe: Probe, seconds: float | None, *, websocket: bool) -> Iterator[CheckResult]:
    """Yield what lives for `seconds`, by default until the first heartbeat: no silence is ever longer than that."""
    wanted = probe.ping_interval + SLACK if seconds is None else seconds
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(_check, probe, "idle poll", wanted, Fault.IDLE_POLL)]
        if websocket:
            runs.insert(0, threads.submit(_check, probe, "idle ws", wanted, Fault.IDLE_WEBSOCKET))
        for run in runs:
            yield run.result()


def _check(probe: Probe, name: str, wanted: float, fault: Fault) -> CheckResult:
    transport: Transport
    began = time.monotonic()
    try:
        if fault is Fault.IDLE_POLL:
            transport = Polling(probe.target)
        else:
            transport = WebSocket(probe.target)
            transport.receive(10.0)
        client = SocketIo(transport)
        client.join("/", probe.target.auth)
        began = time.monotonic()
        try:
            while (left := began + wanted - time.monotonic()) > 0:
                client.next_event(left)
        finally:
            client.close()
    except BadAnswer as error:
        return probe.blame(name, _cut(probe, began, f"a waiting poll gets {error.answer.status}"), fault)
    except Closed as error:
        return probe.blame(name, _cut(probe, began, f"cut ({error.code})"), fault)
    except ClientError as error:
        return failed(name, str(error), "Look at the proxy's log.")
    return ok(name, f"lived for {wanted:g} s, with a heartbeat each {probe.ping_interval:g} s")


def _cut(probe: Probe, began: float, how: str) -> str:
    after = time.monotonic() - began
    return f"{how} after {after:.1f} s; heartbeats come each {probe.ping_interval:g} s (SOCKET_PING_INTERVAL)"
