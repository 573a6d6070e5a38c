"""The sentences of a report that every view shows in the same words."""

from __future__ import annotations

from statistics import median
from typing import Final

from omnirt_lab.folds.timeline import Span
from omnirt_lab.records import Artifact, ExecutionMode, MemoryKind, RunReport
from omnirt_lab.units import MS_PER_S, ms_from_ns
from omnirt_lab.views import numbers
from omnirt_lab.views.quoting import shortened, visible

KIND_WORDS: Final[dict[MemoryKind, str]] = {
    "cuda_allocator": "CUDA allocator",
    "mps": "MPS allocator",
    "rss": "process memory",
}

NOTABLE_WAIT_SHARE: Final = 0.01
"""A wait for a worker that is a smaller part of the run's duration is not among the figures to see first."""

_MESSAGE_LIMIT: Final = 400

_ELSEWHERE: Final[tuple[ExecutionMode, ...]] = ("subprocess", "ray")
"""Modes whose runs are other processes'; `worker_id` names them behind the one that asked."""


def outcome(report: RunReport) -> str:
    """How it stands and how long it took: `succeeded in 1.24 s`."""
    match report.state:
        case "queued":
            return "queued"
        case "running":
            return f"running for {numbers.duration(report.duration_ms)}"
        case "succeeded":
            return f"succeeded in {numbers.duration(report.duration_ms)}"
        case state if report.duration_ms is None:
            return f"{state} before it ran"
        case state:
            return f"{state} after {numbers.duration(report.duration_ms)}"


def model(report: RunReport, *, width: int = 48) -> str:
    """The model's name; of a long path the beginning and the end."""
    return shortened(visible(report.model), width)


def settings(report: RunReport) -> tuple[str, ...]:
    """Steps, guidance, size, seed and scheduler, as far as they are known."""
    config, resolved = report.request.config, report.config_resolved
    steps = config.steps or resolved.get("num_inference_steps")
    guidance = config.guidance_scale if config.guidance_scale is not None else resolved.get("guidance_scale")
    parts = [_steps(report, steps if isinstance(steps, int) else None)]
    if isinstance(guidance, int | float):
        parts.append(f"guidance {numbers.plain(guidance)}")
    parts += [_picture_size(report), _length(report)]
    parts.append(_seed(report))
    if "scheduler" in report.components:
        parts.append(report.components["scheduler"].class_name)
    if config.preset is not None:
        parts.append(f"preset {config.preset}")
    return tuple(part for part in parts if part)


def _steps(report: RunReport, wanted: int | None) -> str:
    planned = report.steps_planned or wanted
    if report.state == "succeeded" and report.steps:
        return numbers.count(len(report.steps), "step")
    if planned is None:
        return numbers.count(len(report.steps), "step") if report.steps else ""
    return f"{len(report.steps):,} of {numbers.count(planned, 'step')}"


def _picture_size(report: RunReport) -> str:
    if report.artifacts:
        width_px, height_px = report.artifacts[0].width_px, report.artifacts[0].height_px
    else:
        width_px, height_px = report.request.config.width, report.request.config.height
    if width_px is None or height_px is None:
        return ""
    return numbers.sides(width_px, height_px)


def _length(report: RunReport) -> str:
    """How long a video or a sound is: `81 frames at 16 a second`, `10.0 s at 44,100 Hz`."""
    if not report.artifacts:
        return ""
    first = report.artifacts[0]
    if first.frame_count is not None and first.fps is not None:
        return f"{numbers.count(first.frame_count, 'frame')} at {numbers.plain(first.fps)} a second"
    if first.duration_s is not None and first.sample_rate_hz is not None:
        return f"{numbers.duration(first.duration_s * MS_PER_S)} at {first.sample_rate_hz:,} Hz"
    return ""


def output_lines(report: RunReport) -> tuple[str, ...]:
    """One line a stored output: the beginning of its sha256, its size, sides and seed."""
    return tuple(map(_output_line, report.artifacts))


def _output_line(artifact: Artifact) -> str:
    parts = [artifact.sha256[:12], numbers.size(artifact.size_bytes)]
    if artifact.media_type != "image/png":
        parts.append(artifact.media_type)
    if artifact.width_px and artifact.height_px:
        parts.append(numbers.sides(artifact.width_px, artifact.height_px))
    if artifact.seed is not None:
        parts.append(f"seed {artifact.seed}")
    return "  ".join(parts)


def _seed(report: RunReport) -> str:
    seeds = [artifact.seed for artifact in report.artifacts if artifact.seed is not None]
    if not seeds and report.request.config.seed is not None:
        seeds = [report.request.config.seed]
    if not seeds:
        return ""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def key_figures(report: RunReport) -> tuple[tuple[str, str], ...]:
    """The few figures to see first, each with its label: total, median step, peak, savings or losses, the wait."""
    figures = [("total", numbers.duration(report.duration_ms))]
    if report.steps:
        figures.append(("median step", numbers.duration(median(_step_durations_ms(report)))))
    if report.memory.kind is not None and report.memory.peak_bytes:
        device, peak_bytes = max(report.memory.peak_bytes.items(), key=lambda peak: peak[1])
        label = f"peak {counted(report)}" if report.memory.kind == "rss" else f"peak on {device}"
        figures.append((label, numbers.size(peak_bytes)))
    saved_ms = [use.saved_ms for use in report.cache_details if use.saved_ms is not None]
    if saved_ms:
        label = "saved by caches" if sum(saved_ms) >= 0 else "lost by caches"
        figures.append((label, numbers.duration(abs(sum(saved_ms)))))
    if (report.queue_wait_ms or 0) > NOTABLE_WAIT_SHARE * (report.duration_ms or 0):
        figures.append(("waited", numbers.duration(report.queue_wait_ms)))
    return tuple(figures)


def step_times(report: RunReport) -> str | None:
    """`20 steps: median 50.0 ms, min 48.0 ms, max 58.0 ms`; None where no step ended."""
    if not report.steps:
        return None
    durations_ms = _step_durations_ms(report)
    return (
        f"{numbers.count(len(durations_ms), 'step')}: median {numbers.duration(median(durations_ms))}, "
        f"min {numbers.duration(min(durations_ms))}, max {numbers.duration(max(durations_ms))}"
    )


def _step_durations_ms(report: RunReport) -> list[float]:
    return [ms_from_ns(step.end_t_ns - step.start_t_ns) for step in report.steps]


def span_notes(span: Span) -> tuple[str, ...]:
    """What is special about a bar: which cache stood in and what that saved, what ended it, or that nothing did."""
    notes = []
    if span.cache_type is not None:
        saved = f", {numbers.saving(ms_from_ns(span.saved_ns))}" if span.saved_ns is not None else ""
        notes.append(f"from the {visible(span.cache_type)} cache{saved}")
    if span.error is not None:
        notes.append(f"ended by {visible(span.error)}")
    if span.is_open:
        notes.append("has not ended")
    return tuple(notes)


def counted(report: RunReport) -> str:
    """What its memory figures count, and whose they are where another process than its caller's ran it."""
    if report.memory.kind is None:
        return "memory"
    whose = f" of {visible((report.worker_id or '').rpartition('/')[2])}" if is_elsewhere(report) else ""
    return KIND_WORDS[report.memory.kind] + whose


def is_elsewhere(report: RunReport) -> bool:
    """Whether another process than its caller's ran it."""
    return report.execution_mode in _ELSEWHERE and report.worker_id is not None


def memory_lines(report: RunReport) -> tuple[str, ...]:
    """One line a device: its peak, what it counts and whose it is, and the growth over the reading before the call."""
    memory = report.memory
    if memory.kind is None:
        return ()
    return tuple(
        f"peak {numbers.size(peak_bytes)} on {device} ({counted(report)})"
        + (
            f", {numbers.size(peak_bytes - memory.baseline_bytes[device])} above its start"
            if device in memory.baseline_bytes
            else ""
        )
        for device, peak_bytes in memory.peak_bytes.items()
    )


def cache_lines(report: RunReport) -> tuple[str, ...]:
    """One line a cache: how often it was asked, how often it had the value, and the time that this saved."""
    return tuple(
        f"{visible(use.cache_type)}: {use.hits:,} of {use.calls:,} hit"
        + (f", {numbers.saving(use.saved_ms)}" if use.saved_ms is not None else "")
        + (f", made by run {use.source_run_id}" if use.source_run_id is not None else "")
        + (f", {use.evictions:,} let go" if use.evictions else "")
        + (f", {numbers.size(use.freed_bytes)} freed" if use.freed_bytes is not None else "")
        for use in report.cache_details
    )


def placement_lines(report: RunReport) -> tuple[str, ...]:
    """One line a device, with the components on it."""
    components_on: dict[str, list[str]] = {}
    for name, device in report.device_placement.items():
        components_on.setdefault(device, []).append(name)
    return tuple(f"{device}: {', '.join(names)}" for device, names in components_on.items())


def error_line(report: RunReport) -> str | None:
    """What ended it, where, and in whose words."""
    error = report.error
    if error is None:
        return None
    where = f" in {error.stage}" if error.stage else ""
    return f"{error.type}{where}: {visible(error.message, limit=_MESSAGE_LIMIT)}"


def warning_lines(report: RunReport) -> tuple[str, ...]:
    """One line a warning, with its hint."""
    return tuple(
        visible(f"{warning.message}; {warning.hint}" if warning.hint else warning.message, limit=_MESSAGE_LIMIT)
        for warning in report.warnings
    )


def measurement_line(report: RunReport) -> str:
    """What measuring cost and lost, and by which clock."""
    overhead_ns, clock = report.probe.overhead_ns, report.probe.clock
    if overhead_ns is None:
        cost = "cost of measuring: not known"
    else:
        cost = f"cost of measuring: {numbers.duration(ms_from_ns(overhead_ns))}"
        if report.duration_ms:
            cost += f" ({numbers.percent(ms_from_ns(overhead_ns) / report.duration_ms)})"
    dropped = report.probe.events_dropped
    lost = f", {numbers.count(dropped, 'event')} dropped" if dropped else ""
    return f"{cost}, {clock} clock{lost}"
