"""A run as a Chrome trace, which Perfetto and chrome://tracing open.

The format is the JSON object of Google's "Trace Event Format": times in microseconds since the job was enqueued, one
lane (a `tid`) for the stages of each name and one for the steps, and a counter for each device's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from omnirt_lab.folds.timeline import STEPS
from omnirt_lab.records import RunReport
from omnirt_lab.records.trace import Trace, TraceSpan

_NS_PER_US: Final = 1_000
_JOB: Final = "job"

ChromeEvent: TypeAlias = dict[str, Any]


def encode(report: RunReport, trace: Trace) -> bytes:
    """The JSON file; a span that is open begins and does not end."""
    facts: dict[str, str | None] = {
        "trace_id": trace.trace_id,
        "run_id": trace.run_id,
        "job_id": trace.job_id,
        "state": trace.state,
    }
    facts |= {"enqueued_at_ms": str(trace.enqueued_at_ms), "steps_left_out": str(trace.steps_left_out)}
    return encode_events(run_events(report, trace), facts)


def encode_events(events: Iterable[ChromeEvent], facts: dict[str, str | None]) -> bytes:
    """The JSON file of these events, with `facts` beside them."""
    return msgspec.json.encode({"traceEvents": list(events), "displayTimeUnit": "ms", "otherData": facts})


def run_events(report: RunReport, trace: Trace, *, pid: int = 1, offset_ns: int = 0) -> Iterator[ChromeEvent]:
    """A run's lanes, spans and memory as the process `pid`, `offset_ns` after the beginning of the file."""
    names = dict.fromkeys(map(_lane_of, trace.spans))
    lanes = {name: tid for tid, name in enumerate(names, start=1)}
    yield from lane_names(trace.spans[0].name, names, pid=pid)
    for event in (*(_span_event(span, lanes) for span in trace.spans), *_memory_events(report)):
        yield {**event, "pid": pid, "ts": (event["ts"] + offset_ns) / _NS_PER_US}


def lane_names(process: str, lanes: Iterable[str], *, pid: int) -> Iterator[ChromeEvent]:
    """Name a process and its lanes, whose `tid` counts from 1."""
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": process}}
    for tid, name in enumerate(lanes, start=1):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}


def _lane_of(span: TraceSpan) -> str:
    return {"job": _JOB, "step": STEPS, "stage": span.name}[span.kind]


def _span_event(span: TraceSpan, lanes: dict[str, int]) -> ChromeEvent:
    """`ts` is in nanoseconds here."""
    event = {
        "name": span.name,
        "cat": span.kind,
        "tid": lanes[_lane_of(span)],
        "ts": span.start_t_ns,
        "args": span.attributes,
    }
    if span.end_t_ns is None:
        return event | {"ph": "B"}
    return event | {"ph": "X", "dur": (span.end_t_ns - span.start_t_ns) / _NS_PER_US}


def _memory_events(report: RunReport) -> Iterator[ChromeEvent]:
    for sample in report.memory.samples:
        name = f"{report.memory.kind} {sample.device}"
        yield {"ph": "C", "name": name, "ts": sample.t_ns, "args": {"bytes": sample.bytes}}
