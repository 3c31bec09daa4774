"""All steps of `mintflow check URL`, in order; what one needs of those before it."""

from collections.abc import Iterator

from mintflow_realtime.cli.client.errors import Refused
from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.probe.context import Probe, failed
from mintflow_realtime.cli.probe.handshake import check_handshake
from mintflow_realtime.cli.probe.idle import check_idle
from mintflow_realtime.cli.probe.sizes import check_sizes
from mintflow_realtime.cli.probe.transports import check_polling, check_upgrade, check_websocket
from mintflow_realtime.stores.redis.self_check import CheckResult, Outcome


def check_url(target: Target, idle_seconds: float | None = None) -> Iterator[CheckResult]:
    """Yield what a client meets at `target`, one result after the other."""
    probe = Probe(target)
    yield from check_handshake(probe)
    if not probe.opening:
        return
    try:
        yield from check_polling(probe)
    except Refused as error:
        yield failed("token", f"the server refuses this client: {error} ({error.code})", _advice(error.code))
        return
    websocket = True
    for result in check_websocket(probe):
        websocket = result.outcome is not Outcome.FAILED
        yield result
    if websocket:
        yield from check_upgrade(probe)
    else:
        yield failed("upgrade", "without a WebSocket clients stay on polling, and don't complain")
    yield from check_sizes(probe, websocket=websocket)
    if idle_seconds is None or idle_seconds > 0:
        yield from check_idle(probe, idle_seconds, websocket=websocket)


def _advice(code: str) -> str:
    if code in ("tenant_required", "tenant_denied"):
        return "Name one of the token's tenants: --tenant."
    return 'Show a token that is valid there: --token "$(mintflow token -u you -t acme)" with its JWT_SECRET.'
