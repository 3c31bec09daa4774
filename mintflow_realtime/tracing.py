"""Spans of OpenTelemetry, where OTEL_* variables ask for traces; else nothing, at the cost of looking at `on`.

Standard library only, until somebody asks: the rest comes with the extra `otel`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

on = False
"""Whether spans are made. Hot paths look here first."""

NEEDED = "OTEL_* variables ask for traces, which need: pip install 'mintflow-realtime[otel]'"
_ASKING = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"

_tracer: Any = None
_trace: Any = None
_nothing = nullcontext()


def wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(environ.get(name, "").strip() for name in _ASKING)


def begin(environ: Mapping[str, str] = os.environ, *, exports: bool = False) -> str | None:
    """Make spans from now on, where the environment asks for it; return a sentence where that can't be.

    They go to whatever provider the process has. One that `exports` and has none gets one that sends them by OTLP over
    HTTP, as the OTEL_* variables say.
    """
    if not wanted(environ):
        return None
    try:
        from opentelemetry import trace
    except ImportError:
        return NEEDED
    if exports and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        sentence = _export(trace, environ)
        if sentence is not None:
            return sentence
    if not on:
        use(None)
    return None


def use(provider: Any) -> None:
    """Make spans by `provider`, or by that of the process where it is None."""
    global on, _tracer, _trace
    from opentelemetry import trace

    _trace, _tracer = trace, trace.get_tracer("mintflow_realtime", tracer_provider=provider)
    on = True


def end() -> None:
    """Make no more spans."""
    global on
    on = False


def _export(trace: Any, environ: Mapping[str, str]) -> str | None:
    protocol = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _HTTP)
    if protocol != _HTTP or environ.get("OTEL_TRACES_EXPORTER", "otlp") not in ("otlp", ""):
        return f"Traces are exported by OTLP as {_HTTP} alone; another exporter is the application's to set up"
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        return NEEDED
    named = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "mintflow-realtime"}
    provider = TracerProvider(resource=Resource.create(named))
    # It sends from a thread of its own, a bounded queue at a time; under gevent that is a greenlet.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return None


def publishing(namespace: str, events: int) -> AbstractContextManager[Any]:
    """Return what is around a publish: a PRODUCER span."""
    if not on:
        return _nothing
    attributes = {
        "messaging.system": "mintflow",
        "messaging.destination.name": namespace,
        "messaging.batch.message_count": events,
    }
    return _span(f"publish {namespace}", _trace.SpanKind.PRODUCER, attributes)


def delivering(namespace: str, traceparent: str) -> AbstractContextManager[Any]:
    """Return what is around one node's broadcast of an event: a CONSUMER span, linked to that of its publish."""
    if not on or not traceparent:
        return _nothing
    found = _trace.get_current_span(_extracted(traceparent)).get_span_context()
    links = [_trace.Link(found)] if found.is_valid else []
    attributes = {"messaging.system": "mintflow", "messaging.destination.name": namespace}
    return _span(f"deliver {namespace}", _trace.SpanKind.CONSUMER, attributes, links=links)


def serving(name: str, attributes: Mapping[str, Any], traceparent: str = "") -> AbstractContextManager[Any]:
    """Return what is around a command or a call of the API: a SERVER span, below that of `traceparent`."""
    if not on:
        return _nothing
    return _span(name, _trace.SpanKind.SERVER, attributes, context=_extracted(traceparent) if traceparent else None)


def traceparent() -> str:
    """Return the current span's header (W3C Trace Context); "" without one."""
    if not on:
        return ""
    here = _trace.get_current_span().get_span_context()
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{int(here.trace_flags):02x}" if here.is_valid else ""


def trace_id() -> str:
    """Return the id of the current trace, 32 hexadecimal digits; "" without one."""
    return traceparent()[3:35]


def failed(code: str) -> None:
    """Note that what the current span is about was refused with `code`."""
    if on:
        span = _trace.get_current_span()
        span.set_attribute("error.type", code)
        if code in ("internal", "unavailable"):
            span.set_status(_trace.StatusCode.ERROR, code)


@contextmanager
def _span(name: str, kind: Any, attributes: Mapping[str, Any], **options: Any) -> Iterator[None]:
    with _tracer.start_as_current_span(name, kind=kind, attributes=attributes, **options):
        yield


def _extracted(traceparent: str) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # A fresh context: nothing that happens to be current here is above it.
    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}, context=Context())
