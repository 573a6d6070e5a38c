"""A run while it goes on, as what a live view shows: words, and places on an axis in ten-thousandths of its length.

A pure function of the report so far, so that it never says anything else than the report in the end. However long the
run is, what it returns has at most some hundred bars and points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final, Literal

from omnirt_lab.folds import timeline
from omnirt_lab.folds.timeline import Lane, MemoryCurve, Span, Timeline
from omnirt_lab.records import Record, RunReport
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import numbers
from omnirt_lab.views.facts import KIND_WORDS
from omnirt_lab.views.quoting import visible
from omnirt_lab.views.waterfall import ticks

WHOLE: Final = 10_000
"""The end of the axis, and the height of a curve's highest point. Whole numbers cost half as much as rounded ones."""

MAX_BARS: Final = 100
"""In one lane; a thousand steps are drawn as so many bars of several steps each."""

MAX_POINTS: Final = 160
"""Of one memory curve."""

_PROMPT_LIMIT: Final = 300

BarKind = Literal["load", "encode", "denoise", "decode", "other", "step", "step_odd"]


class Bar(Record, frozen=True, kw_only=True):
    """A part of a lane."""

    start: int

    end: int

    kind: BarKind

    is_open: bool = False

    is_cached: bool = False

    is_error: bool = False


class LiveLane(Record, frozen=True, kw_only=True):
    """One row of the waterfall."""

    name: str

    figure: str
    """How long it took so far; of the steps, how long one takes."""

    bars: tuple[Bar, ...]


class LiveCurve(Record, frozen=True, kw_only=True):
    """One device's memory; of a point, the second number is its height between the lowest and the highest reading."""

    name: str

    low: str

    high: str

    points: tuple[tuple[int, int], ...]


class LiveState(Record, frozen=True, kw_only=True):
    """All that a live view shows."""

    prompt: str

    model: str

    state: str

    headline: str
    """Where the run is: `step 7 of 20`, `text encoder`, `waiting in the queue`."""

    progress: float | None
    """Share of the steps that are done; None before it is known how many there will be."""

    left: str | None
    """Time that the steps still to come will take; None before two were done."""

    elapsed: str

    lanes: tuple[LiveLane, ...]

    ticks: tuple[tuple[int, str], ...]

    curves: tuple[LiveCurve, ...]

    hits: tuple[str, ...]

    notes: tuple[str, ...]
    """What the run has warned of."""


def live_state(report: RunReport, *, now_ns: int) -> LiveState:
    """What there is to see at the moment `now_ns`, on the report's own clock: nanoseconds since it was enqueued."""
    made = timeline.of_report(report)
    is_over = report.state not in ("queued", "running")
    total_ns = max(made.total_ns, 1, 0 if is_over else now_ns - made.zero_t_ns)
    return LiveState(
        prompt=visible(report.request.inputs.prompt, limit=_PROMPT_LIMIT),
        model=visible(report.model, limit=_PROMPT_LIMIT),
        state=report.state,
        headline=_headline(report, made),
        progress=len(report.steps) / report.steps_planned if report.steps_planned else None,
        left=_left(report),
        elapsed=numbers.duration(ms_from_ns(total_ns if made.lanes else now_ns)),
        lanes=tuple(_lane(lane, total_ns) for lane in made.lanes),
        ticks=tuple((_place(t_ns, total_ns), label) for t_ns, label in ticks(total_ns)) if made.lanes else (),
        curves=tuple(_curve(made, curve, total_ns) for curve in made.curves if len(curve.t_ns) > 1),
        hits=tuple(_hits(report)),
        notes=tuple(visible(warning.message) for warning in report.warnings),
    )


def steps_left_ns(report: RunReport) -> int | None:
    """How long the steps to come will take, by the median of those done.

    None before two are done: the first one warms up, and says little about the others.
    """
    if report.steps_planned is None or len(report.steps) < 2:
        return None
    usual_ns = median(step.end_t_ns - step.start_t_ns for step in report.steps[1:])
    return round(max(0, report.steps_planned - len(report.steps)) * usual_ns)


def _headline(report: RunReport, made: Timeline) -> str:
    if report.state == "queued":
        return "waiting in the queue"
    if report.state != "running":
        return report.state
    running = [lane.name for lane in made.lanes if lane.spans[-1].is_open]
    if running and running[-1] != "denoise":
        return _words(running[-1])
    if running and report.steps_planned:
        return f"step {len(report.steps)} of {report.steps_planned}"
    return f"step {len(report.steps)}" if running else "between two stages"


def _left(report: RunReport) -> str | None:
    left_ns = steps_left_ns(report) if report.state == "running" else None
    return f"{numbers.duration(ms_from_ns(left_ns))} left" if left_ns else None


def _lane(lane: Lane, total_ns: int) -> LiveLane:
    if lane.is_steps:
        usual_ms = ms_from_ns(round(median(span.duration_ns for span in lane.spans)))
        return LiveLane(name=lane.name, figure=f"{numbers.duration(usual_ms)} each", bars=_steps(lane.spans, total_ns))
    bars = tuple(_bar(span, _kind(lane.name), total_ns) for span in lane.spans[-MAX_BARS:])
    busy_ns = sum(bar_ns(span, total_ns) for span in lane.spans)
    return LiveLane(name=_words(lane.name), figure=numbers.duration(ms_from_ns(busy_ns)), bars=bars)


def bar_ns(span: Span, total_ns: int) -> int:
    """How long a stage took; one that goes on reaches to the end of the axis."""
    return (total_ns if span.is_open else span.end_ns) - span.start_ns


def _bar(span: Span, kind: BarKind, total_ns: int) -> Bar:
    return Bar(
        start=_place(span.start_ns, total_ns),
        end=WHOLE if span.is_open else _place(span.end_ns, total_ns),
        kind=kind,
        is_open=span.is_open,
        is_cached=span.cache_type is not None,
        is_error=span.error is not None,
    )


def _steps(spans: Sequence[Span], total_ns: int) -> tuple[Bar, ...]:
    """Every step a bar, or as many steps to a bar as there must be; whose shades alternate."""
    together = -(-len(spans) // MAX_BARS)
    groups = [spans[first : first + together] for first in range(0, len(spans), together)]
    return tuple(
        Bar(
            start=_place(group[0].start_ns, total_ns),
            end=_place(group[-1].end_ns, total_ns),
            kind="step_odd" if index % 2 else "step",
        )
        for index, group in enumerate(groups)
    )


def _kind(name: str) -> BarKind:
    if name == "denoise":
        return "denoise"
    if name.startswith("vae"):
        return "decode"
    if "encoder" in name:
        return "encode"
    return "load" if name == "load" else "other"


def _curve(made: Timeline, curve: MemoryCurve, total_ns: int) -> LiveCurve:
    low_bytes, high_bytes = min(curve.bytes), max(curve.peak_bytes, *curve.bytes)
    span_bytes = max(high_bytes - low_bytes, 1)
    kind = "memory" if made.memory_kind is None else KIND_WORDS[made.memory_kind]
    return LiveCurve(
        name=f"{kind}, {visible(curve.device)}",
        low=numbers.size(low_bytes),
        high=numbers.size(high_bytes),
        points=tuple(
            (_place(curve.t_ns[at], total_ns), _place(curve.bytes[at] - low_bytes, span_bytes))
            for at in _shown(curve.bytes)
        ),
    )


def _shown(readings: Sequence[int]) -> Sequence[int]:
    """Positions of the readings to draw: all, or of so many at a time the highest, and the last of all."""
    count = len(readings)
    together = -(-count // MAX_POINTS)
    if together == 1:
        return range(count)
    groups = (range(first, min(first + together, count)) for first in range(0, count, together))
    return [*(max(group, key=readings.__getitem__) for group in groups), count - 1]


def _hits(report: RunReport) -> Iterator[str]:
    for use in report.cache_details:
        if use.hits:
            saved = "" if use.saved_ms is None else f", {numbers.saving(use.saved_ms)}"
            yield f"{_words(use.cache_type)} cache: {numbers.count(use.hits, 'hit')}{saved}"


def _place(part: int, whole: int) -> int:
    return part * WHOLE // whole


def _words(name: str) -> str:
    return visible(name).replace("_", " ")
