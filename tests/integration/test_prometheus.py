"""Debian's Prometheus on a server under load: what it reads, and that each alert fires on its own fault alone."""

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mintflow_realtime.metrics import series
from tests.integration.test_metrics import _listener, parsed
from tests.ports import free_port
from tests.prometheus import ALERTS, RULES, Prometheus, firing_after, promtool
from tests.redis_fixture import PrivateRedis
from tests.servers import ROOT, Node, stopping, until
from tests.tenants import Tenant

pytestmark = [pytest.mark.independent, pytest.mark.thorough]

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
HOST = 'job="mintflow",instance="h1"'
WORKER = f'{HOST},worker="0"'


def of(name: str, labels: str = "") -> str:
    return f"{name}{{{WORKER}{',' if labels else ''}{labels}}}"


def histogram(name: str, quick: str, slow: str = "0x200") -> dict[str, str]:
    """Return a histogram of which `quick` took some milliseconds, and `slow` up to 2.5 s."""
    grows = {"0.005": quick, "2.5": quick if slow == "0x200" else slow, "+Inf": quick if slow == "0x200" else slow}
    return {of(f"{name}_bucket", f'le="{bound}"'): values for bound, values in grows.items()}


# A worker of which nothing is wrong, for fifty minutes.
WELL = {
    f"up{{{HOST}}}": "1x200",
    of("mintflow_handed_over_timestamp_seconds"): "0+15x200",
    of("mintflow_start_timestamp_seconds"): "5x200",
    of("mintflow_build_info", 'version="0.2.0"'): "1x200",
    of("mintflow_redis_calls_total", 'kind="script",outcome="ok"'): "0+150x200",
    of("mintflow_redis_calls_total", 'kind="script",outcome="error"'): "0x200",
    of("mintflow_redis_calls_total", 'kind="script",outcome="unavailable"'): "0x200",
    **histogram("mintflow_redis_call_seconds", "0+150x200"),
    of("mintflow_redis_pool_wait_seconds_total"): "0x200",
    of("mintflow_health_probe_age_seconds"): "1x200",
    of("mintflow_publishes_total", 'outcome="ok"'): "0+15x200",
    of("mintflow_publishes_total", 'outcome="unavailable"'): "0x200",
    **histogram("mintflow_event_age_seconds", "0+150x200"),
    **histogram("mintflow_loop_lag_seconds", "0+60x200"),
    of("mintflow_sessions"): "100x200",
    of("mintflow_max_connections"): "1000x200",
    of("mintflow_open_files"): "200x200",
    of("mintflow_max_files"): "1000x200",
    of("mintflow_slow_consumers_total"): "0+0.01x200",
    of("mintflow_refusals_total", 'code="authentication_failed"'): "0+0.1x200",
    of("mintflow_connects_total"): "0+5x200",
    of("mintflow_log_breaks_total", 'reason="gap"'): "0x200",
    of("mintflow_recoveries_total", 'outcome="recovered"'): "0+5x200",
    of("mintflow_recoveries_total", 'outcome="gap"'): "0x200",
    of("mintflow_failures_total", 'door="command"'): "0x200",
    of("mintflow_draining"): "0x200",
    of("mintflow_ai_requests_total", 'outcome="completed"'): "0+2x200",
    of("mintflow_ai_requests_total", 'outcome="unavailable"'): "0x200",
    of("mintflow_ignored_messages_total", 'reason="pickled"'): "0x200",
}
# What is otherwise from the tenth minute on; Redis is away until the twentieth, and back then.
FAULTS: dict[str, dict[str, str]] = {
    "MintflowDown": {f"up{{{HOST}}}": "1x40 0x160"},
    "MintflowWorkerHangs": {
        of("mintflow_handed_over_timestamp_seconds"): "0+15x40 600x160",
        of("mintflow_health_probe_age_seconds"): "1x40 7x160",
    },
    "MintflowRedisAway": {
        of("mintflow_redis_calls_total", 'kind="script",outcome="ok"'): "0+150x40 6000x40 6000+150x120",
        of("mintflow_redis_calls_total", 'kind="script",outcome="unavailable"'): "0x40 0+150x40 6000x120",
        **histogram("mintflow_redis_call_seconds", "0+150x40 6000x40 6000+150x120", "0+150x200"),
        of("mintflow_health_probe_age_seconds"): "1x40 1+15x39 1x120",
        of("mintflow_publishes_total", 'outcome="ok"'): "0+15x40 600x40 600+15x120",
        of("mintflow_publishes_total", 'outcome="unavailable"'): "0x40 0+15x40 600x120",
        of("mintflow_ai_requests_total", 'outcome="completed"'): "0+2x40 80x40 80+2x120",
        of("mintflow_ai_requests_total", 'outcome="unavailable"'): "0x40 0+2x40 80x120",
    },
    "MintflowRedisRefuses": {
        of("mintflow_redis_calls_total", 'kind="script",outcome="error"'): "0x40 0+15x160",
        of("mintflow_publishes_total", 'outcome="unavailable"'): "0x40 0+15x160",
    },
    "MintflowRedisSlow": histogram("mintflow_redis_call_seconds", "0+150x40 6000x160", "0+150x200"),
    "MintflowRedisConnectionsUsedUp": {of("mintflow_redis_pool_wait_seconds_total"): "0x40 0+30x160"},
    "MintflowDeaf": {of("mintflow_health_probe_age_seconds"): "1x40 1+15x160"},
    "MintflowPublishesFail": {of("mintflow_publishes_total", 'outcome="unavailable"'): "0x40 0+1x160"},
    "MintflowEventsLate": histogram("mintflow_event_age_seconds", "0+150x40 6000x160", "0+150x200"),
    "MintflowLoopLags": histogram("mintflow_loop_lag_seconds", "0+60x40 2400x160", "0+60x200"),
    "MintflowFull": {of("mintflow_sessions"): "100x40 950x160"},
    "MintflowFilesUsedUp": {of("mintflow_open_files"): "200x40 950x160"},
    "MintflowSlowConsumers": {of("mintflow_slow_consumers_total"): "0x40 0+2x160"},
    "MintflowRefusesMost": {
        of("mintflow_refusals_total", 'code="authentication_failed"'): "0x40 0+10x160",
        of("mintflow_connects_total"): "0+5x40 200x160",
    },
    "MintflowEventsLost": {of("mintflow_log_breaks_total", 'reason="gap"'): "0x40 3x160"},
    "MintflowNotRecovered": {of("mintflow_recoveries_total", 'outcome="gap"'): "0x40 0+2x160"},
    "MintflowWorkersRestart": {of("mintflow_start_timestamp_seconds"): "5x40 600+15x160"},
    "MintflowFails": {of("mintflow_failures_total", 'door="command"'): "0x40 0+1x160"},
    "MintflowDrainHangs": {of("mintflow_draining"): "0x40 1x160"},
    "MintflowTwoVersions": {of("mintflow_build_info", 'version="0.1.0"'): "_x5 1x195"},
    "MintflowAiFails": {of("mintflow_ai_requests_total", 'outcome="unavailable"'): "0x40 0+8x160"},
    "MintflowForeignMessages": {of("mintflow_ignored_messages_total", 'reason="pickled"'): "0x40 0+1x160"},
}


def test_the_rules_are_rules() -> None:
    assert f"SUCCESS: {len(ALERTS) + 2} rules found" in promtool("check", "rules", str(RULES))
    with_rules_beside = RULES.parent / "prometheus.yml"
    promtool("check", "config", str(with_rules_beside))


def test_each_alert_has_a_fault_and_a_section_that_says_what_to_do() -> None:
    assert set(FAULTS) == set(ALERTS) and len(set(ALERTS)) == len(ALERTS)
    for alert in ALERTS:
        assert f"docs/operations.md#{alert.lower()}:" in RULES.read_text()
        assert f"\n### {alert}\n" in OPERATIONS


def test_rules_dashboard_and_page_name_series_that_there_are() -> None:
    counted = {one.name for one in series.ALL}
    for text in (RULES.read_text(), DASHBOARD.read_text(), OPERATIONS):
        for name in set(re.findall(r"(?<![\w:])mintflow_\w+", text)) - {"mintflow_realtime"}:
            assert re.sub("_(bucket|sum|count)$", "", name) in counted or name in counted, name


def test_nothing_fires_where_nothing_is_wrong(tmp_path: Path) -> None:
    firing_after(WELL, {minute: set() for minute in range(1, 50)}, tmp_path)


@pytest.mark.parametrize("alert", FAULTS)
def test_each_alert_fires_on_its_own_fault_and_on_no_other(alert: str, tmp_path: Path) -> None:
    broken = WELL | FAULTS[alert]
    if alert == "MintflowTwoVersions":
        firing_after(broken, {10: set(), 20: set(), 40: {alert}}, tmp_path)
    elif alert == "MintflowEventsLost":
        firing_after(broken, {9: set(), 12: {alert}, 30: set()}, tmp_path)
    elif alert == "MintflowRedisAway":
        # What it brings about is seen for a while when it is back.
        firing_after(broken, {9: set(), 12: {alert}, 19: {alert}, **{at: set() for at in range(22, 50)}}, tmp_path)
    else:
        firing_after(broken, {9: set(), 19: {alert}, 30: {alert}}, tmp_path)


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 15 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["title"] and panel["description"] and panel["targets"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"


@pytest.fixture
def loaded() -> Iterator[tuple[Node, PrivateRedis]]:
    """Two workers of which the internal address tells, and who publishes to some clients all the while."""
    redis = PrivateRedis()
    bind = f"127.0.0.1:{free_port()}"
    node = Node(workers=2, REDIS_URL=redis.url, INTERNAL_BIND=bind, AI_BACKEND="echo")
    ended = threading.Event()
    with stopping(redis, node):
        node.wait_ready()
        tenant = Tenant(node)

        def publish() -> None:
            while not ended.wait(0.05):
                with contextlib.suppress(requests.RequestException, AssertionError):
                    tenant.log("one", "two")

        with stopping(tenant):
            for _ in range(4):
                tenant.plain("/logs", "/flows").call("/logs", "subscribe_logs", {})
            publisher = threading.Thread(target=publish)
            publisher.start()
            try:
                yield node, redis
            finally:
                ended.set()
                publisher.join(30)


# Where others compute on the same machine, these are right to fire.
SLOWNESS = {"MintflowLoopLags", "MintflowEventsLate", "MintflowRedisSlow"}


@pytest.mark.timeout(300)
def test_a_server_under_load(loaded: tuple[Node, PrivateRedis]) -> None:
    node, redis = loaded
    began = time.monotonic()
    prometheus = Prometheus(node.env["INTERNAL_BIND"])
    with stopping(prometheus):
        until(lambda: prometheus.value("sum(mintflow_connections)") == 8, 60, "it scrapes both workers")
        assert prometheus.value("count(mintflow_build_info)") == 2
        until(lambda: prometheus.value("sum(rate(mintflow_deliveries_total[10s])) > 0"), 60, "it counts deliveries")
        page = requests.get(f"http://{node.env['INTERNAL_BIND']}/metrics", timeout=10).text
        promtool("check", "metrics", given=page)
        seen = {name for name in parsed(page)}
        assert {"mintflow_publish_seconds_bucket", "mintflow_event_age_seconds_sum"} <= seen
        prometheus.wait_for_scrapes(5)
        assert prometheus.firing() <= SLOWNESS

        def fires(alert: str) -> bool:
            return alert in prometheus.firing()

        def all_is_well() -> bool:
            return prometheus.firing() <= SLOWNESS

        redis.pause()
        until(lambda: fires("MintflowRedisAway"), 60)
        redis.resume()
        until(all_is_well, 60, "Redis is back")

        # Not the one that Prometheus asks.
        other = next(pid for pid in node.workers() if pid != _listener(node))
        os.kill(other, signal.SIGSTOP)
        try:
            until(lambda: fires("MintflowWorkerHangs"), 60)
        finally:
            os.kill(other, signal.SIGCONT)
        until(all_is_well, 60, "the worker goes on")
        # A process that goes on after ten seconds is deaf indeed, until it has subscribed anew.
        fired = prometheus.fired(time.monotonic() - began) - SLOWNESS - {"MintflowDeaf"}
        assert fired == {"MintflowRedisAway", "MintflowWorkerHangs"}

        node.process.send_signal(signal.SIGTERM)
        until(lambda: fires("MintflowDown"), 60)
        assert prometheus.firing() - SLOWNESS == {"MintflowDown"}
