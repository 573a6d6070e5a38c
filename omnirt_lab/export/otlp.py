"""A trace as OpenTelemetry's own spans, and as OTLP/JSON by OpenTelemetry's own encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from omnirt_lab.folds import attributes
from omnirt_lab.records.trace import Trace, TraceSpan

SERVICE: Final = "omnirt-lab"
"""`service.name`, where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say nothing else."""

_BASE: Final = 16


def encode(trace: Trace) -> bytes:
    """An ExportTraceServiceRequest as OTLP/JSON."""
    return encode_spans(to_spans(trace)).to_json().encode()


def to_spans(trace: Trace) -> Sequence[ReadableSpan]:
    """The spans as the SDK has them.

    OTLP has no open spans: one whose end is not known ends at the latest moment that is known of the run, and has the
    attribute `omnirt.is_open`.
    """
    return [_to_span(trace, span) for span in trace.spans]


def _to_span(trace: Trace, span: TraceSpan) -> ReadableSpan:
    is_open = span.end_t_ns is None
    end_t_ns = trace.last_t_ns if span.end_t_ns is None else span.end_t_ns
    return ReadableSpan(
        name=span.name,
        context=_context(trace.trace_id, span.span_id, is_remote=False),
        parent=None
        if span.parent_span_id is None
        else _context(trace.trace_id, span.parent_span_id, is_remote=span.kind == "job"),
        resource=_resource(),
        instrumentation_scope=_scope(),
        attributes=span.attributes | ({attributes.IS_OPEN: True} if is_open else {}),
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.message) if span.is_error else Status(StatusCode.UNSET),
        start_time=trace.unix_ns(span.start_t_ns),
        end_time=trace.unix_ns(max(end_t_ns, span.start_t_ns)),
    )


def _context(trace_id: str, span_id: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        trace_id=int(trace_id, _BASE),
        span_id=int(span_id, _BASE),
        is_remote=is_remote,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


@cache
def _resource() -> Resource:
    own = Resource({SERVICE_NAME: SERVICE, SERVICE_VERSION: version("omnirt-lab")})
    return own.merge(OTELResourceDetector().detect())


@cache
def _scope() -> InstrumentationScope:
    return InstrumentationScope("omnirt_lab", version("omnirt-lab"))
