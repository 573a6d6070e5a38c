"""A run as a Chrome trace, which Perfetto and chrome://tracing open.

The format is the JSON object of Google's "Trace Event Format": times in microseconds since the job was enqueued, one
lane (a `tid`) for the stages of each name and one for the steps, and a counter for each device's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from omnirt_lab.folds.timeline import STEPS
from omnirt_lab.records import RunReport
from omnirt_lab.records.trace import Trace, TraceSpan

_NS_PER_US: Final = 1_000
_PID: Final = 1
_JOB: Final = "job"


def encode(report: RunReport, trace: Trace) -> bytes:
    """The JSON file; a span that is open begins and does not end."""
    lanes = {name: tid for tid, name in enumerate(dict.fromkeys(map(_lane_of, trace.spans)), start=1)}
    events = [*_names(trace, lanes), *(_span_event(span, lanes) for span in trace.spans), *_memory_events(report)]
    facts = {"trace_id": trace.trace_id, "run_id": trace.run_id, "job_id": trace.job_id, "state": trace.state}
    facts |= {"enqueued_at_ms": str(trace.enqueued_at_ms), "steps_left_out": str(trace.steps_left_out)}
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms", "otherData": facts})


def _lane_of(span: TraceSpan) -> str:
    return {"job": _JOB, "step": STEPS, "stage": span.name}[span.kind]


def _names(trace: Trace, lanes: dict[str, int]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": _PID, "args": {"name": trace.spans[0].name}}
    for name, tid in lanes.items():
        yield {"ph": "M", "name": "thread_name", "pid": _PID, "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": _PID, "tid": tid, "args": {"sort_index": tid}}


def _span_event(span: TraceSpan, lanes: dict[str, int]) -> dict[str, Any]:
    event = {
        "name": span.name,
        "cat": span.kind,
        "pid": _PID,
        "tid": lanes[_lane_of(span)],
        "ts": span.start_t_ns / _NS_PER_US,
        "args": span.attributes,
    }
    if span.end_t_ns is None:
        return event | {"ph": "B"}
    return event | {"ph": "X", "dur": (span.end_t_ns - span.start_t_ns) / _NS_PER_US}


def _memory_events(report: RunReport) -> Iterator[dict[str, Any]]:
    for sample in report.memory.samples:
        name = f"{report.memory.kind} {sample.device}"
        yield {"ph": "C", "name": name, "pid": _PID, "ts": sample.t_ns / _NS_PER_US, "args": {"bytes": sample.bytes}}
