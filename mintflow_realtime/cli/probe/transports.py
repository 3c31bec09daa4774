"""Both transports and the upgrade from one to the other: each is joined to a namespace and asked one thing."""

import time
from collections.abc import Iterator

from mintflow_realtime.cli.client.errors import ClientError, Closed, NotUpgraded, Refused, Unreached
from mintflow_realtime.cli.client.polling import BadAnswer, Polling
from mintflow_realtime.cli.client.socket_io import SocketIo
from mintflow_realtime.cli.client.target import PATIENCE
from mintflow_realtime.cli.client.websocket import WebSocket
from mintflow_realtime.cli.probe.context import Probe, failed, ok, warning
from mintflow_realtime.cli.probe.proxies import Fault
from mintflow_realtime.stores.redis.self_check import CheckResult

# A waiting poll is answered in milliseconds; what holds it back for so long buffers.
SLOW_SECONDS = 1.0
ROUNDS = 5


def check_polling(probe: Probe) -> Iterator[CheckResult]:
    """Yield whether a session by long-polling works; a refused token is told, and ends the whole check."""
    try:
        polling = Polling(probe.target)
    except (Unreached, BadAnswer) as error:
        yield failed("polling", str(error), "Look at the proxy's log.")
        return
    client = SocketIo(polling)
    try:
        client.join("/", probe.target.auth)
        taken = max(_round_trip(client, probe) for _ in range(ROUNDS))
    except Refused as error:
        raise error
    except BadAnswer as error:
        if error.answer.status == 400 and "unknown" in error.answer.body.lower():
            yield probe.blame("polling", "requests of one session reach different servers", Fault.STICKY)
        else:
            yield failed("polling", str(error), "Look at the proxy's log.")
    except ClientError as error:
        yield failed("polling", str(error), "Look at the proxy's log.")
    else:
        found = f"works, {taken * 1000:.0f} ms a round trip at worst"
        if taken > SLOW_SECONDS:
            yield warning("polling", found, "Does the proxy keep answers back (nginx: proxy_buffering off;)?")
        else:
            yield ok("polling", found)
    finally:
        client.close()


def _round_trip(client: SocketIo, probe: Probe) -> float:
    """Return the seconds that joining the namespace anew takes, by a POST and a GET."""
    began = time.perf_counter()
    client.leave("/")
    client.join("/", probe.target.auth)
    return time.perf_counter() - began


def check_websocket(probe: Probe) -> Iterator[CheckResult]:
    """Yield whether a WebSocket opens and carries messages."""
    try:
        client = SocketIo.by_websocket(probe.target)
    except NotUpgraded as error:
        yield _not_upgraded(probe, "websocket", error)
        return
    except ClientError as error:
        yield failed("websocket", str(error), getattr(error, "advice", "") or "Look at the proxy's log.")
        return
    try:
        began = time.perf_counter()
        client.join("/", probe.target.auth)
        yield ok("websocket", f"works, {(time.perf_counter() - began) * 1000:.0f} ms a round trip")
    except ClientError as error:
        yield failed("websocket", f"opens, but then {error}", "Look at the proxy's log.")
    finally:
        client.close()


def check_upgrade(probe: Probe) -> Iterator[CheckResult]:
    """Yield whether a session by long-polling goes on by WebSocket, as stock clients do it."""
    try:
        polling = Polling(probe.target)
    except (Unreached, BadAnswer) as error:
        yield failed("upgrade", str(error), "Look at the proxy's log.")
        return
    try:
        if "websocket" not in polling.opening.get("upgrades", ()):
            yield warning("upgrade", "the server offers none", "SOCKET_TRANSPORTS there has polling alone.")
            return
        websocket = WebSocket(probe.target, sid=polling.sid)
        websocket.send("2probe")
        if websocket.receive(PATIENCE) != "3probe":
            yield failed("upgrade", "the WebSocket opens, but nothing comes through it", "Look at the proxy's log.")
            return
        websocket.send("5")
        client = SocketIo(websocket)
        client.join("/", probe.target.auth)
        client.close()
        yield ok("upgrade", "a session goes on from polling to WebSocket")
    except NotUpgraded as error:
        yield _not_upgraded(probe, "upgrade", error)
    except Closed as error:
        yield failed("upgrade", f"the WebSocket opens, but {error}", "Look at the proxy's log.")
    except ClientError as error:
        yield failed("upgrade", str(error), "Look at the proxy's log.")
    finally:
        polling.close()


def _not_upgraded(probe: Probe, name: str, error: NotUpgraded) -> CheckResult:
    if error.status in (502, 503, 504):
        return failed(name, f"the handshake is answered with {error.status}", "Is the server ready (GET /readyz)?")
    if error.status in (401, 403):
        return failed(name, f"refused with {error.status}", "Leave this path out of the proxy's own login and rules.")
    if "unknown" in error.body.lower() and "session" in error.body.lower():
        return probe.blame(name, "requests of one session reach different servers", Fault.STICKY)
    found = f"answered with {error.status} and not 101: the request loses its Upgrade on the way, or HTTP/1.1"
    return probe.blame(name, found, Fault.UPGRADE)
