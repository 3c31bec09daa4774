"""An application whose spans stay in memory, with a view that publishes."""

from typing import Any

from flask import Flask
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mintflow_realtime import SocketManager

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

app = Flask("traced")
realtime = SocketManager(app)
application = realtime.wsgi_app


@app.post("/start/<tenant>")
def start(tenant: str) -> str:
    with trace.get_tracer("shop").start_as_current_span("the view"):
        return realtime.flows.started(tenant, "f", "r").offset


@app.post("/log/<tenant>")
def log(tenant: str) -> dict[str, str]:
    with trace.get_tracer("shop").start_as_current_span("another view") as span:
        realtime.logs.append(tenant, message="written in a view")
        return {"trace": f"{span.get_span_context().trace_id:032x}"}


@app.get("/spans")
def spans() -> list[dict[str, Any]]:
    return [
        {
            "name": span.name,
            "kind": span.kind.name,
            "trace": f"{span.context.trace_id:032x}",
            "span": f"{span.context.span_id:016x}",
            "parent": f"{span.parent.span_id:016x}" if span.parent else None,
            "links": [f"{link.context.span_id:016x}" for link in span.links],
            "attributes": dict(span.attributes or {}),
        }
        for span in exporter.get_finished_spans()
    ]
