"""A run on one time axis, as data: what a waterfall draws, whoever draws it.

The axis begins where a worker took the job, so that a long wait in a queue does not squeeze the run; the wait stands
in the report. While a job runs, keep a `folds.report` state and call `of_report(to_report(state))` at each redraw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from omnirt_lab.folds import report as report_fold
from omnirt_lab.records import AnyEvent, Clock, MemoryKind, Record, RunReport, StageTiming
from omnirt_lab.units import NS_PER_MS

STEPS: Final = "steps"


class Span(Record, frozen=True, kw_only=True):
    """One bar of a lane. Times are nanoseconds on the timeline's axis."""

    start_ns: int

    end_ns: int
    """For an open span, where the timeline ends."""

    is_open: bool = False
    """No event has ended it: it still runs, or its worker was lost."""

    step: int | None = None
    """Index of the denoising step, in the lane of steps."""

    timestep: float | None = None

    clock: Clock = "wall"

    cache_type: str | None = None
    """Set when a cached value stood in for the whole stage."""

    saved_ns: int | None = None

    error: str | None = None

    peak_bytes: int | None = None

    @property
    def duration_ns(self) -> int:
        """Length of the bar."""
        return self.end_ns - self.start_ns


class Lane(Record, frozen=True, kw_only=True):
    """One row: all stages of one name, or all steps."""

    name: str

    spans: tuple[Span, ...]

    is_steps: bool = False

    @property
    def busy_ns(self) -> int:
        """Sum over the spans."""
        return sum(span.duration_ns for span in self.spans)


class BlockSpan(Record, frozen=True, kw_only=True):
    """One block of a modular pipeline, in nanoseconds on the timeline's axis."""

    name: str

    class_name: str

    start_ns: int

    end_ns: int

    @property
    def duration_ns(self) -> int:
        """What it took, with all that it called."""
        return self.end_ns - self.start_ns


class MemoryCurve(Record, frozen=True, kw_only=True):
    """One device's readings on the timeline's axis."""

    device: str

    t_ns: tuple[int, ...]

    bytes: tuple[int, ...]
    """As many as `t_ns`."""

    peak_bytes: int


class Timeline(Record, frozen=True, kw_only=True):
    """Lanes in the order in which they first started, and the memory curves under them."""

    zero_t_ns: int
    """Where the axis begins, in the report's `t_ns`."""

    total_ns: int

    lanes: tuple[Lane, ...] = ()

    blocks: tuple[BlockSpan, ...] = ()
    """They cut the same time as the lanes in another way."""

    memory_kind: MemoryKind | None = None

    curves: tuple[MemoryCurve, ...] = ()


def fold(events: Iterable[AnyEvent]) -> Timeline:
    """The timeline of a job's events, all of them or those that there are so far."""
    return of_report(report_fold.fold(events))


def of_report(report: RunReport) -> Timeline:
    """The timeline of a run, finished or not."""
    stages = tuple(stage for stage in report.stages if stage.name != "queue")
    zero_t_ns = _zero(report, stages)
    total_ns = _end(report, stages, zero_t_ns) - zero_t_ns
    return Timeline(
        zero_t_ns=zero_t_ns,
        total_ns=total_ns,
        lanes=tuple(_lanes(report, stages, zero_t_ns, total_ns)),
        blocks=tuple(
            BlockSpan(
                name=block.name,
                class_name=block.class_name,
                start_ns=block.start_t_ns - zero_t_ns,
                end_ns=block.end_t_ns - zero_t_ns,
            )
            for block in report.blocks
        ),
        memory_kind=report.memory.kind,
        curves=tuple(_curve(report, device, zero_t_ns) for device in report.memory.peak_bytes),
    )


def _zero(report: RunReport, stages: tuple[StageTiming, ...]) -> int:
    starts = [stage.start_t_ns for stage in stages]
    starts += [step.start_t_ns for step in report.steps]
    starts += [sample.t_ns for sample in report.memory.samples]
    starts += [attempt.start_t_ns for attempt in report.backend_timeline[-1:]]
    return min(starts, default=0)


def _end(report: RunReport, stages: tuple[StageTiming, ...], zero_t_ns: int) -> int:
    ends = [stage.start_t_ns if stage.end_t_ns is None else stage.end_t_ns for stage in stages]
    ends += [step.end_t_ns for step in report.steps]
    ends += [sample.t_ns for sample in report.memory.samples]
    if report.duration_ms is not None and report.backend_timeline:
        ends.append(report.backend_timeline[-1].start_t_ns + round(report.duration_ms * NS_PER_MS))
    return max(ends, default=zero_t_ns)


def _lanes(report: RunReport, stages: tuple[StageTiming, ...], zero_t_ns: int, total_ns: int) -> Iterable[Lane]:
    spans_of: dict[str, list[Span]] = {}
    for stage in sorted(stages, key=lambda stage: stage.start_t_ns):
        spans_of.setdefault(stage.name, []).append(_stage_span(stage, zero_t_ns, total_ns))
    steps = Lane(
        name=STEPS,
        is_steps=True,
        spans=tuple(
            Span(
                start_ns=step.start_t_ns - zero_t_ns,
                end_ns=step.end_t_ns - zero_t_ns,
                step=step.index,
                timestep=step.timestep,
                clock=step.clock,
            )
            for step in report.steps
        ),
    )
    for name, spans in spans_of.items():
        yield Lane(name=name, spans=tuple(spans))
        if name == "denoise" and steps.spans:
            yield steps
    if "denoise" not in spans_of and steps.spans:
        yield steps


def _stage_span(stage: StageTiming, zero_t_ns: int, total_ns: int) -> Span:
    return Span(
        start_ns=stage.start_t_ns - zero_t_ns,
        end_ns=total_ns if stage.end_t_ns is None else stage.end_t_ns - zero_t_ns,
        is_open=stage.end_t_ns is None,
        clock=stage.clock,
        cache_type=stage.cache_type,
        saved_ns=stage.saved_ns,
        error=stage.error,
        peak_bytes=stage.peak_bytes,
    )


def _curve(report: RunReport, device: str, zero_t_ns: int) -> MemoryCurve:
    samples = [sample for sample in report.memory.samples if sample.device == device]
    return MemoryCurve(
        device=device,
        t_ns=tuple(sample.t_ns - zero_t_ns for sample in samples),
        bytes=tuple(sample.bytes for sample in samples),
        peak_bytes=report.memory.peak_bytes[device],
    )
