"""`/healthz`: the process answers. `/readyz`: new clients may be sent to this node."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response

from mintflow_realtime.protocol.errors import RealtimeError
from mintflow_realtime.protocol.scripts import Keys, Runner
from mintflow_realtime.routes import HEALTH_BLUEPRINT
from mintflow_realtime.routes.answers import answer

REPLICA = "a replica, which takes no writes"


def _none() -> list[str]:
    return []


def blueprint(
    redis: Runner,
    receiving: Callable[[], bool],
    accepting: Callable[[], bool],
    serves: Callable[[], bool] = lambda: True,
    *,
    keys: Keys | None = None,
    is_replica: Callable[[BaseException], bool] = lambda error: False,
    faults: Callable[[], list[str]] = _none,
    warnings: Callable[[], list[str]] = _none,
) -> Blueprint:
    """Return the blueprint of both.

    `receiving`: this node's subscriber gets its own probe; `accepting`: the node isn't draining; `serves`: this process
    serves sockets. Of one that doesn't, that is what is missing, and not a listener. `faults` and `warnings` are
    sentences about Redis, and `is_replica` tells by an error of it whether it is one; with a fault the node isn't
    ready.
    """
    key = (keys or Keys("mf")).shared("self-check", "ready")

    def redis_faults() -> list[str] | None:
        """Return what is wrong with Redis, an empty list where that is only that it doesn't answer; None if nothing."""
        try:
            # It changes nothing; and yet a replica, which answers questions, refuses it. Full memory doesn't matter.
            redis.command("PEXPIRE", key, 1)
        except RealtimeError as error:
            return [REPLICA] if error.__cause__ is not None and is_replica(error.__cause__) else faults()
        return faults() or None

    def healthz() -> Response:
        return answer({"status": "ok"})

    def readyz() -> Response:
        reasons: list[str] = []
        told: dict[str, Any] = {}
        found = redis_faults()
        if found is not None:
            reasons.append("redis")
            told |= {"details": found} if found else {}
        checks = (
            ("sockets", serves),
            ("listener", lambda: not serves() or receiving()),
            ("draining", accepting),
        )
        reasons += [reason for reason, holds in checks if not holds()]
        told |= {"warnings": seen} if (seen := warnings()) else {}
        if reasons:
            return answer({"status": "unready", "reasons": reasons, **told}, 503, {"Retry-After": "1"})
        return answer({"status": "ready", **told})

    health = Blueprint(HEALTH_BLUEPRINT, __name__)
    health.add_url_rule("/healthz", "healthz", healthz)
    health.add_url_rule("/readyz", "readyz", readyz)
    return health
