"""Profiled runs as one Chrome trace: each run's stages, steps and memory, and the operators, on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from omnirt_lab.export.chrome import ChromeEvent, encode_events, lane_names, run_events
from omnirt_lab.folds.operators import OperatorCall
from omnirt_lab.records import RunReport
from omnirt_lab.records.trace import Trace

_NS_PER_US: Final = 1_000


class ProfiledRun(NamedTuple):
    """A run that was made while the profiler watched."""

    report: RunReport
    trace: Trace

    zero_ns: int
    """Where its `t_ns` begin, on the clock of the operators."""


def encode(runs: Sequence[ProfiledRun], calls: Sequence[OperatorCall]) -> bytes:
    """The JSON file: a process for each run and one for the operators, from the first moment of any of them."""
    begins_ns = min([*(run.zero_ns for run in runs), *(call.start_ns for call in calls)], default=0)
    events: list[ChromeEvent] = []
    for pid, run in enumerate(runs, start=1):
        events += run_events(run.report, run.trace, pid=pid, offset_ns=run.zero_ns - begins_ns)
    events += _operator_events(calls, pid=len(runs) + 1, begins_ns=begins_ns)
    return encode_events(events, {"run_ids": ", ".join(run.report.run_id for run in runs)})


def _operator_events(calls: Sequence[OperatorCall], *, pid: int, begins_ns: int) -> Iterator[ChromeEvent]:
    lanes = {name: tid for tid, name in enumerate(dict.fromkeys(call.lane for call in calls), start=1)}
    yield from lane_names("operators", lanes, pid=pid)
    for call in sorted(calls, key=lambda call: (call.start_ns, -call.end_ns)):
        yield {
            "ph": "X",
            "name": call.name,
            "cat": "kernel" if call.is_kernel else "operator",
            "pid": pid,
            "tid": lanes[call.lane],
            "ts": (call.start_ns - begins_ns) / _NS_PER_US,
            "dur": (call.end_ns - call.start_ns) / _NS_PER_US,
        }
