"""What a profiler saw, by the stages of the runs: which operators took the time of `denoise`, of `vae_decode`."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from omnirt_lab.records import Record, RunReport


class OperatorCall(Record, frozen=True, kw_only=True):
    """One call of an operator, or one kernel of a device. Times are of the process's monotonic clock."""

    name: str

    lane: str
    """Where it ran: a thread, or a device's stream. Calls of one lane nest or follow each other."""

    start_ns: int

    end_ns: int

    is_kernel: bool = False
    """It ran on a device, for an operator that has it in its `device_ns`."""

    device_ns: int | None = None
    """What the kernels took that it launched itself; None where no device was profiled."""


class OperatorTotal(Record, frozen=True, kw_only=True):
    """All calls of one operator in a stage."""

    name: str

    calls: int

    self_cpu_ns: int
    """In it and in no operator that it called."""

    cpu_ns: int
    """In it, what it called included; a call inside a call of the same operator counts once."""

    self_device_ns: int | None = None
    """Of the kernels that it launched itself; None where no device was profiled."""

    device_ns: int | None = None


class StageOperators(Record, frozen=True, kw_only=True):
    """The operators of one stage, over all runs that were profiled."""

    stage: str | None
    """None for what was called outside of every stage: between runs, or by other code."""

    duration_ns: int | None
    """What the stage took, by the reports; None outside of stages."""

    operators: tuple[OperatorTotal, ...]
    """Those with the most time of their own first."""

    @property
    def self_cpu_ns(self) -> int:
        """The stage's time in operators. The rest of it is Python, the profiler, or waiting."""
        return sum(total.self_cpu_ns for total in self.operators)


class StageSpan(NamedTuple):
    """When a stage was open, by the process's monotonic clock."""

    name: str
    start_ns: int
    end_ns: int


@dataclass
class _Sum:
    calls: int = 0
    self_cpu_ns: int = 0
    cpu_ns: int = 0
    self_device_ns: int = 0
    device_ns: int = 0
    has_device: bool = False


@dataclass
class _Open:
    """A call that has not ended yet."""

    call: OperatorCall
    stage: str | None
    inner_ns: int = 0
    device_ns: int = 0
    names: frozenset[str] = field(default_factory=frozenset)
    """Of this call and those around it."""


def spans_of(report: RunReport, *, zero_ns: int) -> Iterator[StageSpan]:
    """The report's ended stages; `zero_ns` is the monotonic time of its job's enqueueing."""
    for stage in report.stages:
        if stage.end_t_ns is not None:
            yield StageSpan(stage.name, zero_ns + stage.start_t_ns, zero_ns + stage.end_t_ns)


def by_stage(calls: Iterable[OperatorCall], spans: Iterable[StageSpan]) -> tuple[StageOperators, ...]:
    """Total the calls by the stage that was open when they began; stages in the order in which they first began."""
    ordered = sorted(spans, key=lambda span: span.start_ns)
    durations_ns: defaultdict[str, int] = defaultdict(int)
    for span in ordered:
        durations_ns[span.name] += span.end_ns - span.start_ns
    lanes: defaultdict[str, list[OperatorCall]] = defaultdict(list)
    for call in calls:
        if not call.is_kernel:
            lanes[call.lane].append(call)
    sums: defaultdict[str | None, defaultdict[str, _Sum]] = defaultdict(lambda: defaultdict(_Sum))
    for lane in lanes.values():
        _add_lane(lane, ordered, sums)
    stages: list[str | None] = [*durations_ns, *([None] if None in sums else [])]
    return tuple(
        StageOperators(
            stage=stage,
            duration_ns=None if stage is None else durations_ns[stage],
            operators=tuple(sorted(_totals(sums[stage]), key=lambda total: -total.self_cpu_ns)),
        )
        for stage in stages
    )


def _add_lane(
    calls: list[OperatorCall],
    spans: Sequence[StageSpan],
    sums: defaultdict[str | None, defaultdict[str, _Sum]],
) -> None:
    """Go through the calls in the order of their beginnings, with those that are open on a stack."""
    starts = [span.start_ns for span in spans]
    stack: list[_Open] = []
    for call in sorted(calls, key=lambda call: (call.start_ns, -call.end_ns)):
        while stack and stack[-1].call.end_ns <= call.start_ns:
            _close(stack, sums)
        around = stack[-1].names if stack else frozenset()
        stack.append(_Open(call, _stage_at(call.start_ns, spans, starts), names=around | {call.name}))
    while stack:
        _close(stack, sums)


def _close(stack: list[_Open], sums: defaultdict[str | None, defaultdict[str, _Sum]]) -> None:
    done = stack.pop()
    took_ns = done.call.end_ns - done.call.start_ns
    device_ns = done.device_ns + (done.call.device_ns or 0)
    total = sums[done.stage][done.call.name]
    total.calls += 1
    total.self_cpu_ns += max(0, took_ns - done.inner_ns)
    total.self_device_ns += done.call.device_ns or 0
    total.has_device |= done.call.device_ns is not None
    if not stack or done.call.name not in stack[-1].names:
        total.cpu_ns += took_ns
        total.device_ns += device_ns
    if stack:
        stack[-1].inner_ns += took_ns
        stack[-1].device_ns += device_ns


def _stage_at(t_ns: int, spans: Sequence[StageSpan], starts: Sequence[int]) -> str | None:
    index = bisect_right(starts, t_ns) - 1
    return spans[index].name if index >= 0 and t_ns < spans[index].end_ns else None


def _totals(sums: defaultdict[str, _Sum]) -> Iterator[OperatorTotal]:
    for name, total in sums.items():
        yield OperatorTotal(
            name=name,
            calls=total.calls,
            self_cpu_ns=total.self_cpu_ns,
            cpu_ns=total.cpu_ns,
            self_device_ns=total.self_device_ns if total.has_device else None,
            device_ns=total.device_ns if total.has_device else None,
        )
