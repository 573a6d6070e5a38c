"""A report as aligned plain text, with its waterfall in block characters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from omnirt_lab.folds import timeline
from omnirt_lab.folds.timeline import Lane, Span, Timeline
from omnirt_lab.records import RunReport
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import blocks, facts, numbers
from omnirt_lab.views.quoting import shortened, visible

PROMPT_LIMIT: Final = 240
_NAME_WIDTH: Final = 24
_FIGURES_WIDTH: Final = 22
_LABEL_WIDTH: Final = 10
_FULL, _CACHED, _BROKEN, _THIN = "█", "░", "▒", "▏"


def report_text(report: RunReport, *, width: int = 88) -> str:
    """What the run was, where its time and memory went, and what it cost to know.

    Parameters
    ----------
    width
        Characters in a line. Words longer than a line are not broken.
    """
    parts = [
        "\n".join(_head(report, width)),
        "\n".join(_waterfall(report, width)),
        "\n".join(_facts(report, width)),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(report: RunReport, width: int) -> Iterator[str]:
    yield from textwrap.wrap(f"{facts.model(report)} · {report.task} · {facts.outcome(report)}", width)
    prompt = visible(report.request.inputs.prompt, limit=PROMPT_LIMIT)
    if prompt:
        yield from textwrap.wrap(f"“{prompt}”", width, drop_whitespace=False, break_long_words=True)
    yield from textwrap.wrap(" · ".join(facts.settings(report)), width)


def _waterfall(report: RunReport, width: int) -> Iterator[str]:
    made = timeline.of_report(report)
    if not made.lanes:
        return
    name_width = min(_NAME_WIDTH, max(len(visible(lane.name)) for lane in made.lanes))
    bar_width = max(10, width - name_width - _FIGURES_WIDTH)
    for lane in made.lanes:
        name = shortened(visible(lane.name), name_width).ljust(name_width)
        if lane.is_steps:
            indent = " " * (name_width + 2)
            times = facts.step_times(report) or ""
            yield from textwrap.wrap(times, width, initial_indent=f"{name}  ", subsequent_indent=indent)
            continue
        figures = f"{numbers.duration(ms_from_ns(lane.busy_ns)):>9} {_share(lane, made):>7}"
        yield f"{name} {figures}  {_bar(lane, made, bar_width)}".rstrip()
        indent = " " * (name_width + 3)
        for note in (note for span in lane.spans for note in facts.span_notes(span)):
            yield from textwrap.wrap(note, width, initial_indent=f"{indent}└ ", subsequent_indent=f"{indent}  ")
    for line in blocks.block_lines(made):
        name, indent = blocks.LABEL.ljust(name_width), " " * (name_width + 2)
        yield from textwrap.wrap(line, width, initial_indent=f"{name}  ", subsequent_indent=indent)


def _share(lane: Lane, made: Timeline) -> str:
    return numbers.percent(lane.busy_ns / made.total_ns if made.total_ns else None)


def _bar(lane: Lane, made: Timeline, width: int) -> str:
    """The lane's spans on a line of `width` cells; what is shorter than half a cell is a thin stroke."""
    cells = [" "] * width
    ns_per_cell = max(made.total_ns, 1) / width
    for span in lane.spans:
        first = min(int(span.start_ns / ns_per_cell), width - 1)
        last = min(max(round(span.end_ns / ns_per_cell), first + 1), width)
        mark = _THIN if span.duration_ns < ns_per_cell / 2 else _mark(span)
        cells[first:last] = mark * (last - first)
    return "".join(cells)


def _mark(span: Span) -> str:
    if span.cache_type is not None:
        return _CACHED
    return _BROKEN if span.error is not None or span.is_open else _FULL


def _facts(report: RunReport, width: int) -> Iterator[str]:
    yield from _labelled("memory", facts.memory_lines(report), width)
    yield from _labelled("caches", facts.cache_lines(report), width)
    yield from _labelled("devices", facts.placement_lines(report), width)
    yield from _labelled(_output_label(report), facts.output_lines(report), width)
    if report.queue_wait_ms is not None and report.job_id is not None:
        yield from _labelled("queue", (f"waited {numbers.duration(report.queue_wait_ms)}",), width)
    error = facts.error_line(report)
    if error is not None:
        yield from _labelled("error", (error,), width)
    if report.error is not None and report.error.hint:
        yield from _labelled("hint", (visible(report.error.hint),), width)
    yield from _labelled("warning", facts.warning_lines(report), width)
    yield from _labelled("probe", (facts.measurement_line(report),), width)
    yield from _labelled("run", (report.run_id,), width)


def _labelled(label: str, lines: tuple[str, ...], width: int) -> Iterator[str]:
    for line in lines:
        first, after = label.ljust(_LABEL_WIDTH), " " * _LABEL_WIDTH
        yield from textwrap.wrap(line, width, initial_indent=first, subsequent_indent=after)
        label = ""


def _output_label(report: RunReport) -> str:
    kind = report.artifacts[0].media_type.partition("/")[0] if report.artifacts else "image"
    return {"video": "videos", "audio": "sounds"}.get(kind, "pictures")
