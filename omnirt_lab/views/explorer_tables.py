"""The tables of the report explorer: every figure as text, with the stretch of time that each row is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from omnirt_lab.folds import diagnosis
from omnirt_lab.folds.timeline import Span, Timeline
from omnirt_lab.records import Json, Record, RunReport, StageTiming
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import facts, numbers
from omnirt_lab.views.diagnosis import words
from omnirt_lab.views.quoting import visible

Row: TypeAlias = tuple[str, ...]
Stretch: TypeAlias = tuple[float, float]
"""Beginning and end in milliseconds on the timeline's axis; both the same for a moment."""

_VALUE_LIMIT: Final = 4_000
_FINGERPRINT_DIGITS: Final = 12


class Table(Record, frozen=True, kw_only=True):
    """A table that is ready to show: its cells are text, never markup."""

    caption: str

    header: Row

    rows: tuple[Row, ...]

    right: tuple[int, ...] = ()
    """Indexes of the columns that are aligned to the right, as numbers are."""

    spans_ms: tuple[Stretch, ...] = ()
    """One for each row; empty where rows have no time."""

    stages: tuple[str | None, ...] = ()
    """Of events: the stage that each is about, by its own name; empty in other tables."""

    tones: tuple[str, ...] = ()
    """One for each row, `problem`, `advice` or `info`; empty where rows have none."""

    empty: str = "Nothing."
    """What to say where there is no row."""


def stages(report: RunReport, made: Timeline) -> Table:
    """One row for each stage, in the order in which they began."""
    known = {(stage.name, stage.start_t_ns - made.zero_t_ns): stage for stage in report.stages}
    spans = [(lane.name, span) for lane in made.lanes if not lane.is_steps for span in lane.spans]
    spans.sort(key=lambda named: named[1].start_ns)
    return Table(
        caption="Stages",
        header=("stage", "begins", "takes", "share", "memory peak", "component", "device", "clock", "notes"),
        rows=tuple(_stage_row(known[name, span.start_ns], span, made) for name, span in spans),
        right=(1, 2, 3, 4),
        spans_ms=tuple(stretch(span) for _, span in spans),
        empty="No stage began.",
    )


def stretch(span: Span) -> Stretch:
    """Where the span lies on the axis."""
    return ms_from_ns(span.start_ns), ms_from_ns(span.end_ns)


def _stage_row(stage: StageTiming, span: Span, made: Timeline) -> Row:
    return (
        visible(stage.name),
        numbers.moment(ms_from_ns(span.start_ns)),
        numbers.duration(ms_from_ns(span.duration_ns)),
        numbers.percent(span.duration_ns / made.total_ns if made.total_ns else None),
        numbers.size(span.peak_bytes),
        visible(stage.class_name or numbers.UNKNOWN),
        visible(stage.device or numbers.UNKNOWN),
        span.clock,
        "; ".join(facts.span_notes(span)),
    )


def steps(report: RunReport, made: Timeline) -> Table:
    """One row for each denoising step, counted from 1."""
    spans = [span for lane in made.lanes if lane.is_steps for span in lane.spans]
    return Table(
        caption="Steps",
        header=("step", "begins", "takes", "timestep", "solver calls", "clock"),
        rows=tuple(
            (
                f"{step.index + 1:,}",
                numbers.moment(ms_from_ns(span.start_ns)),
                numbers.duration(ms_from_ns(span.duration_ns)),
                numbers.UNKNOWN if step.timestep is None else numbers.plain(step.timestep),
                f"{step.solver_calls:,}",
                step.clock,
            )
            for step, span in zip(report.steps, spans, strict=True)
        ),
        right=(0, 1, 2, 3, 4),
        spans_ms=tuple(map(stretch, spans)),
        empty="No step ended.",
    )


def blocks(made: Timeline) -> Table:
    """One row for each block of a modular run, in order."""
    return Table(
        caption="Blocks",
        header=("block", "begins", "takes", "share", "class"),
        rows=tuple(
            (
                visible(block.name),
                numbers.moment(ms_from_ns(block.start_ns)),
                numbers.duration(ms_from_ns(block.duration_ns)),
                numbers.percent(block.duration_ns / made.total_ns if made.total_ns else None),
                visible(block.class_name),
            )
            for block in made.blocks
        ),
        right=(1, 2, 3),
        spans_ms=tuple((ms_from_ns(block.start_ns), ms_from_ns(block.end_ns)) for block in made.blocks),
    )


def readings(made: Timeline) -> Table:
    """One row for each memory reading, device by device."""
    read = [
        (t_ns, curve.device, held) for curve in made.curves for t_ns, held in zip(curve.t_ns, curve.bytes, strict=True)
    ]
    return Table(
        caption="Memory readings" + (f" ({facts.KIND_WORDS[made.memory_kind]})" if made.memory_kind else ""),
        header=("at", "device", "held"),
        rows=tuple(
            (numbers.moment(ms_from_ns(t_ns)), visible(device), numbers.size(held)) for t_ns, device, held in read
        ),
        right=(0, 2),
        spans_ms=tuple((ms_from_ns(t_ns), ms_from_ns(t_ns)) for t_ns, _, _ in read),
        empty="Memory was not measured.",
    )


def peaks(report: RunReport) -> Table:
    """One row for each device: what it held at most, and before the pipeline was called."""
    memory = report.memory
    return Table(
        caption="Memory peaks" + (f" ({facts.counted(report)})" if memory.kind else ""),
        header=("device", "peak", "before the call", "growth"),
        rows=tuple(
            (
                visible(device),
                numbers.size(peak_bytes),
                numbers.size(memory.baseline_bytes.get(device)),
                numbers.size(peak_bytes - memory.baseline_bytes[device] if device in memory.baseline_bytes else None),
            )
            for device, peak_bytes in memory.peak_bytes.items()
        ),
        right=(1, 2, 3),
        empty="Memory was not measured.",
    )


def events(report: RunReport, made: Timeline) -> Table:
    """What happened, in order: the marks of the report, and its steps and memory readings between them."""
    found = sorted((*_marks(report), *_measured(report)), key=lambda event: event[0])  # stable: marks come first
    return Table(
        caption="Events",
        header=("at", "event", "stage", "what", "seq"),
        rows=tuple(
            (numbers.moment(ms_from_ns(t_ns - made.zero_t_ns)), word, visible(stage or ""), what, number)
            for t_ns, word, stage, what, number in found
        ),
        right=(0, 4),
        spans_ms=tuple((ms_from_ns(event[0] - made.zero_t_ns),) * 2 for event in found),
        stages=tuple(event[2] for event in found),
        empty="No event.",
    )


_Event: TypeAlias = tuple[int, str, str | None, str, str]


def _marks(report: RunReport) -> Iterator[_Event]:
    for mark in report.stream_events:
        yield mark.t_ns, mark.event, mark.stage, "", f"{mark.seq:,}"


def _measured(report: RunReport) -> Iterator[_Event]:
    """Steps and memory readings: a report has them without the numbers that their events had."""
    for step in report.steps:
        took = numbers.duration(ms_from_ns(step.end_t_ns - step.start_t_ns))
        yield step.end_t_ns, "step", "denoise", f"step {step.index + 1:,}, {took}", ""
    for sample in report.memory.samples:
        yield sample.t_ns, "memory", None, f"{numbers.size(sample.bytes)} on {visible(sample.device)}", ""


def caches(report: RunReport) -> Table:
    """One row for each cache that was asked."""
    return Table(
        caption="Caches",
        header=("cache", "asked", "hits", "saved", "size of what was used"),
        rows=tuple(
            (
                visible(use.cache_type),
                f"{use.calls:,}",
                f"{use.hits:,}",
                numbers.duration(use.saved_ms),
                numbers.size(use.size_bytes),
            )
            for use in report.cache_details
        ),
        right=(1, 2, 3, 4),
        empty="No cache was asked.",
    )


def components(report: RunReport) -> Table:
    """One row for each component, with the device it was on when the run began."""
    return Table(
        caption="Components",
        header=("component", "class", "device", "dtype", "parameters", "size", "fingerprint"),
        rows=tuple(
            (
                visible(name),
                visible(part.class_name),
                visible(part.device or numbers.UNKNOWN),
                part.dtype or numbers.UNKNOWN,
                numbers.UNKNOWN if part.parameter_count is None else f"{part.parameter_count:,}",
                numbers.size(part.parameter_bytes),
                (part.fingerprint or numbers.UNKNOWN)[:_FINGERPRINT_DIGITS],
            )
            for name, part in report.components.items()
        ),
        right=(4, 5),
        empty="Where the components were is not known.",
    )


def attempts(report: RunReport) -> Table:
    """One row for each worker that had the job."""
    return Table(
        caption="Workers",
        header=("attempt", "worker", "backend", "mode", "outcome"),
        rows=tuple(
            (f"{span.attempt:,}", span.worker_id, visible(span.backend), span.execution_mode, span.state)
            for span in report.backend_timeline
        ),
        right=(0,),
        empty="No worker took the job.",
    )


def configuration(report: RunReport) -> tuple[Table, ...]:
    """What was asked for, what the call made of it, and where it ran."""
    environment = msgspec.to_builtins(report.environment) if report.environment is not None else {}
    packages = environment.pop("packages", {})
    asked = msgspec.to_builtins(report.request)
    return (
        _settings("Request", _flat(asked)),
        _settings("Call", report.config_resolved.items(), empty="The pipeline was not called."),
        _settings("Scheduler", report.scheduler_config.items(), empty="Its settings are not known."),
        _settings("Environment", (*environment.items(), *packages.items()), empty="It is not known."),
        _settings("Run", _identity(report)),
    )


def _identity(report: RunReport) -> Iterator[tuple[str, Json]]:
    yield "run", report.run_id
    yield "job", report.job_id
    yield "trace", report.trace_id
    yield "batch size", report.batch_size
    yield "measuring", facts.measurement_line(report)


def _flat(fields: Mapping[str, Json], under: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", value


def _settings(caption: str, settings: Iterable[tuple[str, Json]], *, empty: str = "Nothing.") -> Table:
    """Names and values; what was not set is left out."""
    return Table(
        caption=caption,
        header=("name", "value"),
        rows=tuple((visible(name), _value(value)) for name, value in settings if value or value in (0, False)),
        empty=empty,
    )


def _value(value: Json) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return visible(text, limit=_VALUE_LIMIT)


def findings(report: RunReport) -> Table:
    """What an expert reads in the report, and what to try."""
    found = [(finding, *words(finding)) for finding in diagnosis.diagnose(report)]
    return Table(
        caption="Diagnosis",
        header=("about", "kind", "finding", "what to try"),
        rows=tuple((finding.topic, finding.severity, fact, advice) for finding, fact, advice in found),
        tones=tuple(finding.severity for finding, _, _ in found),
    )
