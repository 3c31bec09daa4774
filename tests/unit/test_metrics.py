"""What is counted, and the page of all workers that live: bounded, and without those that have ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mintflow_realtime.metrics import series, slots
from mintflow_realtime.metrics.counting import MAX_LABELS, Counter, Gauge, Histogram, PlainCounter
from mintflow_realtime.metrics.exposition import render
from mintflow_realtime.metrics.slots import Slot, snapshots
from tests.servers import ROOT


def test_a_counter_grows_by_its_labels() -> None:
    counter = Counter("mintflow_t_total", "T.", "kind")
    counter.add("a")
    counter.add("a", by=2)
    counter.add("b")
    assert counter.snapshot() == [(("a",), 3), (("b",), 1)]


def test_labels_that_somebody_invents_are_bounded() -> None:
    for one in (Counter("c_total", "C.", "x", "y"), Gauge("g", "G.", "x", "y"), Histogram("h_seconds", "H.", "x", "y")):
        for number in range(MAX_LABELS + 50):
            if isinstance(one, Counter):
                one.add("x", str(number))
            elif isinstance(one, Gauge):
                one.set(1, "x", str(number))
            else:
                one.observe(0.1, "x", str(number))
        assert len(one.values) == MAX_LABELS + 1
        assert ("other", "other") in one.values
        # Those before go on.
        assert ("x", "0") in one.values


def test_a_histogram_has_buckets_and_a_sum() -> None:
    histogram = Histogram("h_seconds", "H.", bounds=(0.1, 1))
    for seconds in (0.05, 0.1, 0.5, 7):
        histogram.observe(seconds)
    ((labels, value),) = histogram.snapshot()
    assert labels == () and value[:3] == [2, 1, 1] and value[3] == pytest.approx(7.65)


def test_every_series_has_a_name_of_the_field_and_no_label_that_anybody_can_invent() -> None:
    names = [one.name for one in series.ALL]
    assert len(set(names)) == len(names) > 40
    for one in series.ALL:
        assert one.name.startswith("mintflow_") and one.help.endswith(".")
        assert one.name.endswith("_total") == isinstance(one, Counter | PlainCounter), one.name
        assert not isinstance(one, Histogram) or one.name.endswith("_seconds")
        assert not {"tenant", "user", "room", "sid", "flow", "run", "address"} & {*one.labels}


def samples(directory: Path, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    page, content_type = render(str(directory))
    assert content_type.startswith("text/plain; version=0.0.4")
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == name
    }


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter, Histogram]:
    """Two series of the test's own in the place of all."""
    found = Counter("mintflow_t_total", "T.", "kind"), Histogram("mintflow_t_seconds", "T.", bounds=(1,))
    monkeypatch.setattr("mintflow_realtime.metrics.exposition.ALL", list(found))
    return found


def test_one_page_has_all_workers(tmp_path: Path, counters: tuple[Counter, Histogram]) -> None:
    counter, histogram = counters
    first, second = Slot(str(tmp_path)), Slot(str(tmp_path))
    assert (first.number, second.number) == (0, 1)
    counter.add("a")
    histogram.observe(0.5)
    first.write([*counters])
    counter.add("a", by=4)
    second.write([*counters])
    assert samples(tmp_path, "mintflow_t_total") == {
        (("kind", "a"), ("worker", "0")): 1,
        (("kind", "a"), ("worker", "1")): 5,
    }
    assert samples(tmp_path, "mintflow_t_seconds_bucket")[("le", "1"), ("worker", "0")] == 1
    assert samples(tmp_path, "mintflow_t_seconds_count")[("worker", "1"),] == 1
    second.close()
    second.write([*counters])
    assert [one.worker for one in snapshots(str(tmp_path))] == ["0"]
    again = Slot(str(tmp_path))
    assert again.number == 1
    # What the one before has left is not its own.
    assert [one.worker for one in snapshots(str(tmp_path))] == ["0"]
    first.close()
    again.close()
    assert samples(tmp_path, "mintflow_t_total") == {}


CHILD = """
import sys, time
from mintflow_realtime.metrics import series
from mintflow_realtime.metrics.slots import Slot
slot = Slot(sys.argv[1])
slot.write(series.ALL)
print(slot.number, flush=True)
time.sleep(60)
"""


def test_a_killed_worker_is_counted_no_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "0\n"
        assert [one.worker for one in snapshots(str(tmp_path))] == ["0"]
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert list(snapshots(str(tmp_path))) == []
    with_the_same_number = Slot(str(tmp_path))
    assert with_the_same_number.number == 0
    with_the_same_number.close()


@pytest.mark.parametrize(
    "left", ["", "{", "[]", '{"at": "x", "series": {}}', '{"at": 1e12}', '{"at": 1e12, "series": {"a": [1]}}']
)
def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path, left: str) -> None:
    slot, broken = Slot(str(tmp_path)), Slot(str(tmp_path))
    slot.write(series.ALL)
    (tmp_path / f"{broken.number}.json").write_text(left)
    (tmp_path / "stranger.lock").touch()
    assert [one.worker for one in snapshots(str(tmp_path))] == ["0"]
    slot.close()
    broken.close()


def test_what_is_old_is_passed_over(tmp_path: Path) -> None:
    slot = Slot(str(tmp_path))
    (tmp_path / "0.json").write_text(json.dumps({"at": 1000.0, "series": {}}))
    assert list(snapshots(str(tmp_path))) == []
    slot.close()


def test_another_versions_series_do_no_harm(tmp_path: Path, counters: tuple[Counter, Histogram]) -> None:
    slot = Slot(str(tmp_path))
    others: list[Any] = [
        Counter("mintflow_gone_total", "G.", "kind"),
        Counter("mintflow_t_total", "T.", "kind", "more"),
        Histogram("mintflow_t_seconds", "T.", bounds=(1, 2)),
    ]
    others[1].add("a", "b")
    others[2].observe(1)
    slot.write(others)
    assert samples(tmp_path, "mintflow_t_total") == samples(tmp_path, "mintflow_t_seconds_sum") == {}
    slot.close()


def test_places_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MAX_SLOTS", 2)
    taken = [Slot(str(tmp_path)), Slot(str(tmp_path))]
    with pytest.raises(OSError, match="no place for another worker"):
        Slot(str(tmp_path))
    for slot in taken:
        slot.close()
