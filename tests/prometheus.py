"""Debian's Prometheus and promtool on the files of deploy/prometheus, and Prometheus as a process of a test's own."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.ports import free_port
from tests.proxies.proxy import installed
from tests.servers import ROOT, until

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
# Rules for minutes become rules for seconds, so that a test takes no longer than it must.
SECONDS_OF = {"1m": 5, "5m": 10, "10m": 20, "15m": 60}


def promtool(*arguments: str, given: str = "") -> str:
    """Run promtool and return what it said; raise AssertionError where it found a fault."""
    done = subprocess.run([installed("promtool"), *arguments], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def firing_after(series: Mapping[str, str], minutes: Mapping[float, set[str]], directory: Path) -> None:
    """Check which alerts fire, and that no others do, so many minutes after the first of the values of `series`."""
    expected = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{round(after * 60)}s",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
        for after, names in minutes.items()
    ]
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": expected,
            }
        ],
    }
    # YAML takes JSON.
    path = directory / "rules.test.yml"
    path.write_text(json.dumps(tests))
    promtool("test", "rules", str(path))


class Prometheus:
    """Scrapes `targets` each second, with our rules at the pace of seconds."""

    def __init__(self, *targets: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mf-prometheus-"))
        rules = RULES.read_text()
        for text, seconds in SECONDS_OF.items():
            rules = rules.replace(f"[{text}]", f"[{seconds}s]")
        (self.directory / "rules.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
        shipped = (RULES.parent / "prometheus.yml").read_text()
        (self.directory / "prometheus.yml").write_text(
            shipped.replace("_interval: 15s", "_interval: 1s").replace('["127.0.0.1:9464"]', json.dumps(targets))
        )
        self.url = f"http://127.0.0.1:{free_port()}"
        with open(self.directory / "out", "ab") as out:
            self.process = subprocess.Popen(
                [
                    installed("prometheus"),
                    f"--config.file={self.directory}/prometheus.yml",
                    f"--storage.tsdb.path={self.directory}/data",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=out,
                stderr=out,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression as of now; none while Prometheus isn't ready."""
        assert self.process.poll() is None, (self.directory / "out").read_text()
        try:
            answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10)
        except requests.ConnectionError:
            return []
        if answer.status_code == 503:
            return []
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """Return the one number of an expression; None where there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, seconds: float) -> set[str]:
        """Return the alerts that fired at some time within the last seconds."""
        expression = f'max_over_time(ALERTS{{alertstate="firing"}}[{round(seconds)}s])'
        return {one["metric"]["alertname"] for one in self.query(expression)}

    def wait_for_scrapes(self, number: int) -> None:
        """Return once so many further scrapes have been made."""
        scraped = "count_over_time(up[1h])"
        until(lambda: self.value(scraped) is not None, 60, "Prometheus scrapes")
        goal = (self.value(scraped) or 0) + number
        until(lambda: (self.value(scraped) or 0) >= goal, 60 + 10 * number, "further scrapes")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)
