"""Tracing: off unless OTEL_* variables ask for it, and then what W3C Trace Context says."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mintflow_realtime import tracing
from tests.servers import ROOT

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.end()


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_SERVICE_NAME": "shop"}, False),
    ],
)
def test_what_asks_for_traces(environ: dict[str, str], asked: bool) -> None:
    assert tracing.wanted(environ) is asked


def test_off_it_needs_nothing() -> None:
    # Where it is installed, redis-py imports it.
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from mintflow_realtime import Emitter; from mintflow_realtime import tracing\n"
        "Emitter('redis://127.0.0.1:1').close()\n"
        "with tracing.publishing('/flows', 1): print(tracing.on, repr(tracing.traceparent()))"
    )
    environ = {**{name: value for name, value in os.environ.items() if not name.startswith("OTEL")}}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False ''\n", done.stderr


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracing.begin({"OTEL_TRACES_EXPORTER": "otlp"}) == tracing.NEEDED
    assert not tracing.on


def test_another_exporter_is_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    for environ in (
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ):
        assert "http/protobuf alone" in str(tracing.begin(environ, exports=True))
    assert not tracing.on


def test_a_publish_and_its_delivery_are_linked(spans: InMemorySpanExporter) -> None:
    with tracing.publishing("/flows", 2):
        told = tracing.traceparent()
        assert tracing.trace_id() == told[3:35]
    with tracing.delivering("/flows", told):
        pass
    published, delivered = spans.get_finished_spans()
    assert (published.name, published.kind) == ("publish /flows", SpanKind.PRODUCER)
    assert (delivered.name, delivered.kind) == ("deliver /flows", SpanKind.CONSUMER)
    (link,) = delivered.links
    assert link.context.span_id == published.context.span_id
    assert link.context.trace_id == published.context.trace_id != delivered.context.trace_id


@pytest.mark.parametrize("strange", ["", "x", ABOVE[:-1], "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é" * 55])
def test_what_is_no_traceparent_does_no_harm(strange: str, spans: InMemorySpanExporter) -> None:
    with tracing.delivering("/flows", strange), tracing.serving("GET /x", {}, strange):
        pass
    assert all(not span.links and span.parent is None for span in spans.get_finished_spans() if span.name == "GET /x")


def test_a_call_is_below_who_called(spans: InMemorySpanExporter) -> None:
    with tracing.serving("GET /api/v1/logs", {"http.route": "/api/v1/logs"}, ABOVE):
        tracing.failed("unavailable")
    (span,) = spans.get_finished_spans()
    assert span.kind is SpanKind.SERVER and span.parent is not None
    assert f"{span.context.trace_id:032x}" == ABOVE[3:35] and f"{span.parent.span_id:016x}" == ABOVE[36:52]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes == {"http.route": "/api/v1/logs", "error.type": "unavailable"}
