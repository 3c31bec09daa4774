"""`/healthz`: the process answers. `/readyz`: new clients may be sent to this node."""

from collections.abc import Callable

from flask import Blueprint, Response

from protocol.errors import Unavailable
from protocol.scripts import Runner
from routes.answers import answer


def blueprint(redis: Runner, hears: Callable[[], bool], accepting: Callable[[], bool]) -> Blueprint:
    """Return the blueprint of both. `hears`: the listener gets its own canary; `accepting`: the node isn't draining."""

    def answers() -> bool:
        try:
            redis.command("PING")
        except Unavailable:
            return False
        return True

    checks = (("redis", answers), ("listener", hears), ("draining", accepting))

    def healthz() -> Response:
        return answer({"status": "ok"})

    def readyz() -> Response:
        reasons = [reason for reason, holds in checks if not holds()]
        if reasons:
            return answer({"status": "unready", "reasons": reasons}, 503, {"Retry-After": "1"})
        return answer({"status": "ready"})

    health = Blueprint("mintflow_health", __name__)
    health.add_url_rule("/healthz", "healthz", healthz)
    health.add_url_rule("/readyz", "readyz", readyz)
    return health
