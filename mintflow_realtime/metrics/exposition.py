"""The page that Prometheus reads: what all live workers of a host count, each with the label `worker`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mintflow_realtime.metrics.counting import Histogram, Series
from mintflow_realtime.metrics.series import ALL
from mintflow_realtime.metrics.slots import Snapshot, snapshots

WORKER = "worker"


def render(directory: str, accept: str = "") -> tuple[bytes, str]:
    """Return the page and its content type, in the text format or, where `accept` asks for it, as OpenMetrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Host(ALL, list(snapshots(directory))))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Host(Collector):
    def __init__(self, series: Sequence[Series], found: Sequence[Snapshot]) -> None:
        self._series, self._found = series, found

    def collect(self) -> Iterable[Metric]:
        for one in self._series:
            family = _family(one)
            for snapshot in self._found:
                for labels, value in snapshot.series.get(one.name, ()):
                    # Another version's, while one takes the place of another.
                    if len(labels) == len(one.labels):
                        _add(family, one, [*labels, snapshot.worker], value)
            yield family


def _family(one: Series) -> Any:
    families: Mapping[str, Any] = {
        "counter": CounterMetricFamily,
        "gauge": GaugeMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    return families[one.kind](one.name, one.help, labels=[*one.labels, WORKER])


def _add(family: Any, one: Series, labels: list[str], value: Any) -> None:
    if not isinstance(one, Histogram):
        family.add_metric(labels, value)
    elif isinstance(value, list) and len(value) == len(one.bounds) + 2:
        family.add_metric(labels, list(_buckets(one.bounds, value[:-1])), value[-1])


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> Iterator[tuple[str, float]]:
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    yield from zip(names, accumulate(counts), strict=True)
