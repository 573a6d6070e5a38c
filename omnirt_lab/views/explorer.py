"""What the report explorer shows, ready to draw: figures as text, times in milliseconds on one axis.

The axis is the timeline's: its zero is where a worker took the job. A front end scales and filters what stands here;
it computes no figure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from omnirt_lab.folds import timeline
from omnirt_lab.folds.timeline import Lane, MemoryCurve, Span, Timeline
from omnirt_lab.records import Record, RunReport
from omnirt_lab.units import NS_PER_MS, ms_from_ns
from omnirt_lab.views import explorer_tables as tables
from omnirt_lab.views import facts, numbers
from omnirt_lab.views.explorer_tables import Stretch, Table
from omnirt_lab.views.palette import StageKind, stage_kind
from omnirt_lab.views.quoting import shortened, visible
from omnirt_lab.views.text import PROMPT_LIMIT

Figures: TypeAlias = tuple[tuple[str, str], ...]
"""Labels, each with its figure."""

Look = Literal["whole", "cached", "error", "open"]

_MAX_NAME: Final = 20
_PROMPT_FACTOR: Final = 10
_HELP: Final = (
    "Drag to brush, click to select, Ctrl and wheel to zoom. Keys: arrows move between stages and steps, + and - zoom, "
    "0 shows the whole run, Page Up and Page Down move along it, Enter brushes what is selected, Shift and an arrow "
    "extend the brush, Escape clears."
)


class Bar(Record, frozen=True, kw_only=True):
    """One stage or step on the axis."""

    start_ms: float
    end_ms: float
    look: Look = "whole"

    words: str
    """Its name and figures in a line."""

    stage: str | None
    """The name by which it is selected; None for a step."""

    step: int | None
    """Index of the step, from 0; None for a stage."""

    events: tuple[int, ...]
    """Rows of the table of events that belong to it."""


class ShownLane(Record, frozen=True, kw_only=True):
    """One row of the waterfall."""

    name: str
    """The stage's own name, by which it is selected; `steps` for the lane of steps."""

    label: str
    kind: StageKind | Literal["steps"]
    takes: str
    share: str

    note: str
    """What is special about it, such as the cache that stood in."""

    figures: Figures
    bars: tuple[Bar, ...]


class ShownCurve(Record, frozen=True, kw_only=True):
    """One device's memory on the same axis."""

    label: str
    counted: str
    """What the readings count."""

    t_ms: tuple[float, ...]
    bytes: tuple[int, ...]
    low_bytes: int
    high_bytes: int
    low: str
    high: str

    first_row: int
    """Row of its first reading in the table of readings; the others follow."""


class ExplorerPage(Record, frozen=True, kw_only=True):
    """A whole report, for a person who looks around in it."""

    title: str
    prompt: str
    settings: str
    figures: Figures

    error: str
    """What ended the run and what to do about it; empty where nothing did."""

    traceback: str
    total_ms: float
    total: str
    lanes: tuple[ShownLane, ...]
    curves: tuple[ShownCurve, ...]
    pictures: str
    """How many there are, and how many of them cannot be shown."""

    captions: tuple[str, ...]
    """One for each picture that is shown."""

    tabs: dict[str, tuple[Table, ...]]
    """Tab → its tables, in the order in which the tabs stand."""

    help: str
    """What mouse and keyboard do."""


class Brushed(Record, frozen=True, kw_only=True):
    """The figures of a stretch of time."""

    start_ms: float
    end_ms: float
    figures: Figures


def explorer_page(report: RunReport, *, shown: Sequence[int] = ()) -> ExplorerPage:
    """Everything that the explorer shows, pictures apart.

    Parameters
    ----------
    shown
        Indexes of the artifacts whose pictures are shown.
    """
    made = timeline.of_report(report)
    events = tables.events(report, made)
    lines = facts.output_lines(report)
    return ExplorerPage(
        title=f"{facts.model(report)} · {report.task} · {facts.outcome(report)}",
        prompt=visible(report.request.inputs.prompt, limit=PROMPT_LIMIT * _PROMPT_FACTOR),
        settings=" · ".join(facts.settings(report)),
        figures=facts.key_figures(report),
        error="; ".join(_error(report)),
        traceback=(report.error.traceback or "") if report.error is not None else "",
        total_ms=ms_from_ns(made.total_ns),
        total=numbers.duration(ms_from_ns(made.total_ns)),
        lanes=tuple(_lane(report, lane, made, events) for lane in made.lanes),
        curves=tuple(_curves(made, facts.counted(report))),
        pictures=_pictures(report, len(shown)),
        captions=tuple(lines[index] for index in shown),
        tabs=_tabs(report, made, events),
        help=_HELP,
    )


def _tabs(report: RunReport, made: Timeline, events: Table) -> dict[str, tuple[Table, ...]]:
    return {
        "pictures": (),
        "waterfall": (
            tables.stages(report, made),
            tables.steps(report, made),
            *((tables.blocks(made),) if made.blocks else ()),
        ),
        "memory": (tables.peaks(report), tables.readings(made)),
        "cache": (tables.caches(report),),
        "placement": (tables.components(report), tables.attempts(report)),
        "configuration": tables.configuration(report),
        "events": (events,),
        "diagnosis": (tables.findings(report),),
    }


def _error(report: RunReport) -> Iterator[str]:
    line = facts.error_line(report)
    if line is not None:
        yield line
    if report.error is not None and report.error.hint:
        yield visible(report.error.hint)


def _pictures(report: RunReport, shown: int) -> str:
    made = len(report.artifacts)
    if not made:
        return "The run made no picture."
    if shown == made:
        return numbers.count(made, "picture")
    of_all = f"{shown:,} of {numbers.count(made, 'picture')}"
    return f"{of_all}: the others were purged, lie on another machine, or are too many to show here"


def _lane(report: RunReport, lane: Lane, made: Timeline, events: Table) -> ShownLane:
    busy = numbers.duration(ms_from_ns(lane.busy_ns))
    share = numbers.percent(lane.busy_ns / made.total_ns if made.total_ns else None)
    notes = [note for span in lane.spans for note in facts.span_notes(span)]
    return ShownLane(
        name=lane.name,
        label=shortened(visible(lane.name), _MAX_NAME),
        kind="steps" if lane.is_steps else stage_kind(lane.name),
        takes=numbers.count(len(lane.spans), "step") if lane.is_steps else busy,
        share="" if lane.is_steps else share,
        note=notes[0] if notes else "",
        figures=() if lane.is_steps else tuple(_stage_figures(report, lane, (busy, share), notes)),
        bars=tuple(_bar(lane, span, events) for span in lane.spans),
    )


def _stage_figures(
    report: RunReport, lane: Lane, takes: tuple[str, str], notes: Sequence[str]
) -> Iterator[tuple[str, str]]:
    busy, share = takes
    yield "takes", busy if len(lane.spans) == 1 else f"{busy} in {numbers.count(len(lane.spans), 'call')}"
    yield "share of the run", share
    yield "begins", numbers.moment(ms_from_ns(lane.spans[0].start_ns))
    peak_bytes = [span.peak_bytes for span in lane.spans if span.peak_bytes is not None]
    if peak_bytes:
        yield "memory peak", numbers.size(max(peak_bytes))
    first = next(stage for stage in report.stages if stage.name == lane.name)
    if first.class_name is not None:
        yield "component", visible(first.class_name)
    if first.device is not None:
        yield "device", visible(first.device)
    yield "clock", first.clock
    times = facts.step_times(report) if lane.name == "denoise" else None
    if times is not None:
        yield "steps", times
    for note in notes:
        yield "note", note


def _bar(lane: Lane, span: Span, events: Table) -> Bar:
    start_ms, end_ms = tables.stretch(span)
    name = visible(lane.name) if span.step is None else f"step {span.step + 1:,}"
    took = numbers.duration(ms_from_ns(span.duration_ns))
    return Bar(
        start_ms=start_ms,
        end_ms=end_ms,
        look=_look(span),
        words="; ".join((f"{name}: {took}, from {numbers.moment(start_ms)}", *facts.span_notes(span))),
        stage=None if lane.is_steps else lane.name,
        step=span.step,
        events=_events_of(lane, (start_ms, end_ms), events),
    )


def _look(span: Span) -> Look:
    if span.error is not None:
        return "error"
    if span.is_open:
        return "open"
    return "whole" if span.cache_type is None else "cached"


def _events_of(lane: Lane, within: Stretch, events: Table) -> tuple[int, ...]:
    """Events of the lane's stage or of none, from the beginning to the end; a step's come after the step before."""
    stage = "denoise" if lane.is_steps else lane.name
    bisect_first = bisect_right if lane.is_steps else bisect_left
    first = bisect_first(events.spans_ms, within[0], key=lambda moment: moment[0])
    last = bisect_right(events.spans_ms, within[1], key=lambda moment: moment[0])
    return tuple(row for row in range(first, last) if events.stages[row] in (stage, None))


def _curves(made: Timeline, counted: str) -> Iterator[ShownCurve]:
    first_row = 0
    for curve in made.curves:
        low_bytes = min(curve.bytes, default=curve.peak_bytes)
        yield ShownCurve(
            label=visible(curve.device),
            counted=counted,
            t_ms=tuple(map(ms_from_ns, curve.t_ns)),
            bytes=curve.bytes,
            low_bytes=low_bytes,
            high_bytes=max(curve.peak_bytes, *curve.bytes),
            low=numbers.size(low_bytes),
            high=numbers.size(max(curve.peak_bytes, *curve.bytes)),
            first_row=first_row,
        )
        first_row += len(curve.bytes)


def brushed(report: RunReport, start_ms: float, end_ms: float) -> Brushed:
    """The figures of a stretch of the axis: what took the time, which steps lie in it, what memory was held."""
    made = timeline.of_report(report)
    start_ns, end_ns = round(start_ms * NS_PER_MS), round(end_ms * NS_PER_MS)
    return Brushed(start_ms=start_ms, end_ms=end_ms, figures=tuple(_brush_figures(report, made, start_ns, end_ns)))


def _brush_figures(report: RunReport, made: Timeline, start_ns: int, end_ns: int) -> Iterator[tuple[str, str]]:
    yield "stretch", f"{numbers.moment(ms_from_ns(start_ns))} to {numbers.moment(ms_from_ns(end_ns))}"
    yield "length", numbers.duration(ms_from_ns(end_ns - start_ns))
    yield "share of the run", numbers.percent((end_ns - start_ns) / made.total_ns if made.total_ns else None)
    for lane in made.lanes:
        inside_ns = sum(max(0, min(span.end_ns, end_ns) - max(span.start_ns, start_ns)) for span in lane.spans)
        if inside_ns and not lane.is_steps:
            yield visible(lane.name), numbers.duration(ms_from_ns(inside_ns))
    whole = tuple(
        step
        for step in report.steps
        if start_ns <= step.start_t_ns - made.zero_t_ns and step.end_t_ns - made.zero_t_ns <= end_ns
    )
    times = facts.step_times(replace(report, steps=whole))
    if times is not None:
        yield "whole steps", times
    for curve in made.curves:
        yield from _highest(curve, start_ns, end_ns)


def _highest(curve: MemoryCurve, start_ns: int, end_ns: int) -> Iterator[tuple[str, str]]:
    held = [held for t_ns, held in zip(curve.t_ns, curve.bytes, strict=True) if start_ns <= t_ns <= end_ns]
    if held:
        yield (
            f"memory on {visible(curve.device)}",
            f"at most {numbers.size(max(held))} in {numbers.count(len(held), 'reading')}",
        )
