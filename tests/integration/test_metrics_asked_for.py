"""A real server tells of all that the alerts and the dashboard ask for: by name, and by label."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.test_metrics import Samples, scrape
from tests.plain_client import CONNECT_ERROR
from tests.ports import free_port
from tests.prometheus import RULES
from tests.redis_fixture import PrivateRedis
from tests.servers import API_KEY, ROOT, Node, stopping, until
from tests.tenants import Tenant

pytestmark = pytest.mark.independent

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
SELECTOR = re.compile(r"(?<![\w:])(mintflow_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
# What Prometheus and Grafana add.
ADDED = {"job", "instance"}
# What has no number before the first that it tells of: alerts look at none of it alone.
LATER = {
    "mintflow_resyncs_total",
    "mintflow_ai_first_token_seconds_bucket",
}


def selected(text: str) -> set[tuple[str, str]]:
    """Return name and matchers of all series that rules or panels ask for."""
    return {(name, labels) for name, labels in SELECTOR.findall(text) if name != "mintflow_realtime"}


def is_there(samples: Samples, name: str, labels: str) -> bool:
    def fits(own: dict[str, str]) -> bool:
        for label, how, value in MATCHER.findall(labels):
            is_equal = re.fullmatch(value, own.get(label, "")) if how == "=~" else own.get(label, "") == value
            if label not in ADDED and bool(is_equal) == (how == "!="):
                return False
        return True

    return any(fits(own) for own, _ in samples.get(name, []))


def test_a_server_that_had_faults_tells_of_all_that_rules_and_panels_ask_for() -> None:
    """Most is there from the start, as 0; the rest after the fault that it is about."""
    redis = PrivateRedis()
    node = Node(
        REDIS_URL=redis.url,
        INTERNAL_BIND=f"127.0.0.1:{free_port()}",
        AI_BACKEND="openai",
        OPENAI_API_KEY="none",
        OPENAI_DEFAULT_MODEL="m",
        OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}",
    )
    with stopping(redis, node):
        tenant = Tenant(node.wait_ready(90))
        with stopping(tenant):
            client = tenant.plain("/logs", "/flows", "/ai")
            assert not client.call("/flows", "subscribe_flow", {"flowId": 7})["ok"]
            tenant.log("one")
            client.told("/logs", "new_log")
            client.emit("/ai", "ai_request", {"requestId": "r", "prompt": "hello"})
            client.told("/ai", "ai_error", 60)
            other = tenant.plain()
            assert other.join("/logs", {"token": "nonsense"}).kind == CONNECT_ERROR
            other.close()
            redis.pause()
            # Whether a token was revoked is looked up before anything is published; a key is known without Redis.
            key = {"X-API-Key": API_KEY}
            record = {"level": "info", "message": "two"}
            assert tenant.http("POST", "/logs", [record], headers=key).status_code == 503
            redis.resume()
            asked = selected(RULES.read_text()) | selected(" ".join(expressions(json.loads(DASHBOARD.read_text()))))
            assert len({name for name, _ in asked}) > 40

            def missing() -> list[tuple[str, str]]:
                samples = scrape(node)
                absent = [one for one in sorted(asked) if not is_there(samples, *one)]
                return [(name, labels) for name, labels in absent if name not in LATER]

            with contextlib.suppress(AssertionError):
                until(lambda: not missing(), 30)
            assert missing() == []
            assert not any(name in RULES.read_text() for name in LATER)


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
