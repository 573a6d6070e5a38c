"""A report read in the order in which an expert would read it, as findings with their figures.

Error, timings, memory; then cache hits, placement, batch; then metrics, trace, events. A finding carries the report's
own figures, unrounded, with units at the end of their names (`_ms`, `_bytes`, `share` of 1); `views.diagnosis` words
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final, Literal, TypeAlias

import msgspec

from omnirt_lab.folds import timeline
from omnirt_lab.records import Record, RunReport, StepTiming
from omnirt_lab.units import ms_from_ns

Topic = Literal["error", "timings", "memory", "cache hits", "placement", "batch", "metrics", "trace", "events"]

Severity = Literal["problem", "advice", "info"]
"""`problem`: the result or the report cannot be relied on. `advice`: something can be better. `info`: how it was."""

Figure: TypeAlias = str | int | float

DOMINANT_SHARE: Final = 0.5
NOTABLE_SHARE: Final = 0.1
WARM_UP_FACTOR: Final = 1.5
OUTLIER_FACTOR: Final = 2.0
STANDS_OUT_FACTOR: Final = 1.2
"""By how much a stage's memory peak must exceed the next one's to be worth advice."""

ENOUGH_STEPS: Final = 5
"""Fewer have no median worth comparing with."""

OVERHEAD_SHARE: Final = 0.03
"""What the probe may cost on the built-in model."""


class Finding(Record, frozen=True, kw_only=True):
    """One thing that a report says about its run."""

    topic: Topic

    code: str
    """Stable name of what was found."""

    severity: Severity = "info"

    figures: dict[str, Figure] = msgspec.field(default_factory=dict)


def diagnose(report: RunReport) -> tuple[Finding, ...]:
    """What there is to say, in reading order. A job that still runs is read as far as it has come."""
    return tuple(finding for rule in _RULES for finding in rule(report))


def _outcome(report: RunReport) -> Iterator[Finding]:
    error = report.error
    if error is None:
        yield Finding(topic="error", code="no_error", figures={"state": report.state})
        return
    severity: Severity = "info" if report.state == "cancelled" else "problem"
    figures: dict[str, Figure] = {
        "type": error.type,
        "message": error.message,
        "hint": error.hint or "",
        "stage": error.stage or "",
        "steps": len(report.steps),
        "steps_planned": report.steps_planned or 0,
    }
    yield Finding(topic="error", code=report.state, severity=severity, figures=figures)


def _broken_latents(report: RunReport) -> Iterator[Finding]:
    stats = report.latent_stats
    if stats is not None and stats.nan_count:
        dtypes = sorted({facts.dtype for facts in report.components.values() if facts.dtype})
        figures: dict[str, Figure] = {"nan_count": stats.nan_count, "dtypes": ", ".join(dtypes)}
        yield Finding(topic="error", code="latents_not_finite", severity="problem", figures=figures)


def _warnings(report: RunReport) -> Iterator[Finding]:
    for warning in report.warnings:
        figures: dict[str, Figure] = {"message": warning.message, "hint": warning.hint or ""}
        yield Finding(topic="error", code="warning", severity="advice", figures=figures)


def _longest_stage(report: RunReport) -> Iterator[Finding]:
    """An open stage counts as long as it was seen."""
    lanes = [lane for lane in timeline.of_report(report).lanes if not lane.is_steps]
    if not lanes or not report.duration_ms:
        return
    longest = max(lanes, key=lambda lane: lane.busy_ns)
    stage_ms = ms_from_ns(longest.busy_ns)
    share = stage_ms / report.duration_ms
    figures: dict[str, Figure] = {
        "stage": longest.name,
        "stage_ms": stage_ms,
        "share": share,
        "duration_ms": report.duration_ms,
    }
    if longest.name == "denoise" and report.steps:
        figures |= {"steps": len(report.steps), "median_ms": median(map(_duration_ms, report.steps))}
        yield Finding(topic="timings", code="denoise_longest", figures=figures)
    elif longest.name in ("load", "vae_decode") and share >= DOMINANT_SHARE:
        yield Finding(topic="timings", code=f"{longest.name}_dominates", severity="advice", figures=figures)
    else:
        yield Finding(topic="timings", code="longest_stage", figures=figures)


def _queue(report: RunReport) -> Iterator[Finding]:
    wait_ms, duration_ms = report.queue_wait_ms, report.duration_ms
    if wait_ms is not None and duration_ms is not None and wait_ms > duration_ms:
        yield Finding(
            topic="timings",
            code="queue_longer_than_run",
            severity="advice",
            figures={"queue_wait_ms": wait_ms, "duration_ms": duration_ms},
        )


def _steps(report: RunReport) -> Iterator[Finding]:
    if len(report.steps) < ENOUGH_STEPS:
        return
    first, *rest = report.steps
    median_ms = median(_duration_ms(step) for step in rest)
    if median_ms <= 0:
        return
    first_ms = _duration_ms(first)
    if first_ms > WARM_UP_FACTOR * median_ms:
        yield Finding(
            topic="timings",
            code="slow_first_step",
            figures={"first_ms": first_ms, "median_ms": median_ms, "extra_ms": first_ms - median_ms},
        )
    slow = [step for step in rest if _duration_ms(step) > OUTLIER_FACTOR * median_ms]
    if slow:
        worst = max(slow, key=_duration_ms)
        yield Finding(
            topic="timings",
            code="step_outliers",
            severity="advice",
            figures={
                "slow_steps": len(slow),
                "steps": len(report.steps),
                "median_ms": median_ms,
                "worst_step": worst.index + 1,
                "worst_ms": _duration_ms(worst),
                "extra_ms": sum(_duration_ms(step) - median_ms for step in slow),
            },
        )


def _unaccounted(report: RunReport) -> Iterator[Finding]:
    if not report.stages or not report.duration_ms or any(stage.end_t_ns is None for stage in report.stages):
        return
    rest_ms = report.duration_ms - sum(ms for name, ms in report.timings.items() if name != "queue_ms")
    if rest_ms > NOTABLE_SHARE * report.duration_ms:
        yield Finding(
            topic="timings",
            code="unaccounted_time",
            severity="advice",
            figures={"rest_ms": rest_ms, "share": rest_ms / report.duration_ms, "duration_ms": report.duration_ms},
        )


def _memory(report: RunReport) -> Iterator[Finding]:
    memory = report.memory
    if memory.kind is None:
        yield Finding(topic="memory", code="memory_not_measured")
        return
    for device, peak_bytes in memory.peak_bytes.items():
        figures: dict[str, Figure] = {"device": device, "kind": memory.kind, "peak_bytes": peak_bytes}
        baseline_bytes = memory.baseline_bytes.get(device)
        if baseline_bytes is not None:
            figures["growth_bytes"] = peak_bytes - baseline_bytes
        peaks = sorted((stage.peak_bytes or 0, stage.name) for stage in report.stages)
        if peaks and peaks[-1][0] == peak_bytes:
            figures["stage"] = peaks[-1][1]
        stands_out = len(peaks) > 1 and peak_bytes > STANDS_OUT_FACTOR * peaks[-2][0]
        if figures.get("stage") == "vae_decode" and stands_out:
            yield Finding(topic="memory", code="peak_in_vae_decode", severity="advice", figures=figures)
        else:
            yield Finding(topic="memory", code="memory_peak", figures=figures)


def _caches(report: RunReport) -> Iterator[Finding]:
    if not report.cache_details:
        yield Finding(topic="cache hits", code="no_cache_asked")
    for use in report.cache_details:
        figures: dict[str, Figure] = {"cache_type": use.cache_type, "calls": use.calls, "hits": use.hits}
        if use.hits == 0:
            yield Finding(topic="cache hits", code="cache_missed", figures=figures)
        elif use.saved_ms is None:
            yield Finding(topic="cache hits", code="cache_hit", figures=figures)
        else:
            yield Finding(topic="cache hits", code="cache_saved", figures={**figures, "saved_ms": use.saved_ms})


def _repeated_encoders(report: RunReport) -> Iterator[Finding]:
    """Encoders that no cache was asked for, although they ran more than once."""
    if report.cache_details:
        return
    calls = Counter(stage.name for stage in report.stages if stage.name.startswith("text_encoder"))
    for name, count in calls.items():
        if count > 1 and f"{name}_ms" in report.timings:
            yield Finding(
                topic="cache hits",
                code="encoder_uncached",
                severity="advice",
                figures={"stage": name, "calls": count, "stage_ms": report.timings[f"{name}_ms"]},
            )


def _placement(report: RunReport) -> Iterator[Finding]:
    placement = report.device_placement
    if not placement:
        yield Finding(topic="placement", code="placement_unknown")
        return
    devices = sorted(set(placement.values()))
    on_host = sorted(name for name, device in placement.items() if device == "cpu")
    figures: dict[str, Figure] = {"components": len(placement), "devices": ", ".join(devices)}
    if on_host and len(devices) > 1:
        figures |= {"on_host": ", ".join(on_host)}
        yield Finding(topic="placement", code="split_placement", severity="advice", figures=figures)
    else:
        yield Finding(topic="placement", code="placement", figures=figures)


def _batch(report: RunReport) -> Iterator[Finding]:
    if report.batch_size is None:
        return
    pictures = len(report.artifacts)
    figures: dict[str, Figure] = {"batch_size": report.batch_size, "pictures": pictures}
    if pictures > 1 and report.duration_ms is not None:
        yield Finding(
            topic="batch", code="several_pictures", figures={**figures, "picture_ms": report.duration_ms / pictures}
        )
    else:
        yield Finding(topic="batch", code="batch", figures=figures)


def _overhead(report: RunReport) -> Iterator[Finding]:
    overhead_ns = report.probe.overhead_ns
    if overhead_ns is None or not report.duration_ms:
        yield Finding(topic="metrics", code="overhead_not_measured")
        return
    share = ms_from_ns(overhead_ns) / report.duration_ms
    yield Finding(
        topic="metrics",
        code="overhead_high" if share > OVERHEAD_SHARE else "overhead",
        severity="advice" if share > OVERHEAD_SHARE else "info",
        figures={"overhead_ms": ms_from_ns(overhead_ns), "share": share},
    )


def _trace(report: RunReport) -> Iterator[Finding]:
    spans = len(report.stages) + len(report.steps)
    figures: dict[str, Figure] = {"trace_id": report.trace_id, "spans": spans}
    on_accelerator = any(device != "cpu" for device in report.device_placement.values())
    if on_accelerator and report.state == "succeeded" and all(stage.clock == "wall" for stage in report.stages):
        yield Finding(topic="trace", code="wall_clock_on_accelerator", figures=figures)
    else:
        yield Finding(topic="trace", code="trace", figures=figures)


def _events(report: RunReport) -> Iterator[Finding]:
    dropped = report.probe.events_dropped
    figures: dict[str, Figure] = {"events": len(report.stream_events), "events_dropped": dropped}
    if dropped:
        yield Finding(topic="events", code="events_dropped", severity="problem", figures=figures)
    else:
        yield Finding(topic="events", code="events_complete", figures=figures)


def _duration_ms(step: StepTiming) -> float:
    return ms_from_ns(step.end_t_ns - step.start_t_ns)


_RULES: Final[tuple[Callable[[RunReport], Iterator[Finding]], ...]] = (
    _outcome,
    _broken_latents,
    _warnings,
    _longest_stage,
    _queue,
    _steps,
    _unaccounted,
    _memory,
    _caches,
    _repeated_encoders,
    _placement,
    _batch,
    _overhead,
    _trace,
    _events,
)
