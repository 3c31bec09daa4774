"""What the steps of one check share, and the form of what they find."""

from dataclasses import dataclass, field
from typing import Any

from mintflow_realtime.cli.client.polling import Answer
from mintflow_realtime.cli.client.target import Target
from mintflow_realtime.cli.probe.proxies import Fault, advice, proxy_of
from mintflow_realtime.stores.redis.self_check import CheckResult, Outcome


@dataclass(slots=True)
class Probe:
    """One check of one server. `opening` is what its handshake said; `proxy` the one in between, as far as it tells."""

    target: Target
    opening: dict[str, Any] = field(default_factory=dict)
    proxy: str = ""

    @property
    def ping_interval(self) -> float:
        """Seconds between two heartbeats."""
        return float(self.opening.get("pingInterval", 25_000)) / 1000

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the server takes."""
        return int(self.opening.get("maxPayload", 1_000_000))

    def notice(self, answer: Answer) -> None:
        """Learn from an answer which proxy it came through."""
        self.proxy = self.proxy or proxy_of(answer)

    def blame(self, name: str, found: str, fault: Fault, outcome: Outcome = Outcome.FAILED) -> CheckResult:
        """Return a fault of the proxy, with its setting."""
        return CheckResult(name, outcome, found, advice(fault, self.proxy))


def ok(name: str, found: str) -> CheckResult:
    """Return what is as it should be."""
    return CheckResult(name, Outcome.OK, found)


def warning(name: str, found: str, what_to_do: str = "") -> CheckResult:
    """Return what is worth a look, or couldn't be tried."""
    return CheckResult(name, Outcome.WARNING, found, what_to_do)


def failed(name: str, found: str, what_to_do: str = "") -> CheckResult:
    """Return what keeps clients from being served well."""
    return CheckResult(name, Outcome.FAILED, found, what_to_do)
