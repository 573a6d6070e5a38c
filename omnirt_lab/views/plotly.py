"""A report as a plotly figure, written as the dict that plotly's mime type carries.

By hand: building and checking a `Figure` costs a thousand times more, and nothing here varies but the figures.
Backgrounds are transparent and text is of a middle grey, so that one figure reads in a light and in a dark notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from omnirt_lab.folds import timeline
from omnirt_lab.folds.timeline import BlockSpan, Lane, MemoryCurve, Span, Timeline
from omnirt_lab.records import RunReport
from omnirt_lab.units import BYTES_PER_MIB, NS_PER_MS, NS_PER_S, ms_from_ns
from omnirt_lab.views import blocks, facts, numbers, palette
from omnirt_lab.views.quoting import markup, shortened, visible

Figure: TypeAlias = dict[str, Any]
"""Plain JSON values in plotly's own schema."""

PICTURE_PX: Final = 180
_PROMPT_LIMIT: Final = 110
_LANE_PX: Final = 28
_MEMORY_PX: Final = 90
_GAP_PX: Final = 26
_TITLE_PX: Final = 84
_BOTTOM_PX: Final = 40
_NOTE_SHARE: Final = 0.35
"""Part of the axis that a note beside a bar may need."""
_GRID: Final = "rgba(128, 132, 140, 0.25)"
_CLEAR: Final = "rgba(0, 0, 0, 0)"
_SPACED: Final[Figure] = {"ticks": "outside", "ticklen": 6, "tickcolor": _CLEAR}
"""Unseen ticks hold labels off the axis."""


class Axis(NamedTuple):
    """The unit of the time axis."""

    unit: str
    ns: int

    def of(self, t_ns: int) -> float:
        """The time in the axis's unit, to a microsecond."""
        return round(t_ns / self.ns, 6 if self.ns == NS_PER_S else 3)


def figure_dict(report: RunReport, image_sources: Sequence[str] = ()) -> Figure:
    """Waterfall and memory on one time axis, with the run's pictures above them.

    Parameters
    ----------
    image_sources
        Data URIs of the pictures, shown in a row.

    Returns
    -------
    dict
        `data` and `layout`: what `plotly.graph_objects.Figure` takes and plotly's mime type shows.
    """
    made = timeline.of_report(report)
    axis = Axis("s", NS_PER_S) if made.total_ns >= NS_PER_S else Axis("ms", NS_PER_MS)
    bars = [_bars(lane, axis) for lane in made.lanes] + ([_blocks(made, axis)] if made.blocks else [])
    return {
        "data": bars + [_curve(curve, axis) for curve in made.curves],
        "layout": _layout(report, made, axis, image_sources),
    }


def _bars(lane: Lane, axis: Axis) -> Figure:
    name = _lane_name(lane)
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": [name] * len(lane.spans),
        "base": [axis.of(span.start_ns) for span in lane.spans],
        "x": [axis.of(span.duration_ns) for span in lane.spans],
        "marker": {
            "color": [_colour(lane, span) for span in lane.spans],
            "pattern": {"shape": [_pattern(span) for span in lane.spans], "fillmode": "overlay", "solidity": 0.4},
            "line": {"width": 0},
        },
        "hovertext": [_hover(lane, span) for span in lane.spans],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
    }


def _blocks(made: Timeline, axis: Axis) -> Figure:
    total_ns = blocks.busy_ns(made)
    return {
        "type": "bar",
        "orientation": "h",
        "name": blocks.LABEL,
        "y": [blocks.LABEL] * len(made.blocks),
        "base": [axis.of(block.start_ns) for block in made.blocks],
        "x": [axis.of(block.duration_ns) for block in made.blocks],
        "marker": {"color": [palette.BLOCK_LIGHT if i % 2 else palette.BLOCK for i in range(len(made.blocks))]},
        "hovertext": [_block_hover(block, total_ns) for block in made.blocks],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "showlegend": False,
    }


def _block_hover(block: BlockSpan, total_ns: int) -> str:
    return f"<b>{markup(block.name)}</b>: {blocks.took(block, total_ns)} of all blocks<br>{markup(block.class_name)}"


def _lane_names(made: Timeline) -> list[str]:
    """From above."""
    return [*map(_lane_name, made.lanes), *([blocks.LABEL] if made.blocks else [])]


def _lane_name(lane: Lane) -> str:
    return markup(shortened(lane.name, 28))


def _colour(lane: Lane, span: Span) -> str:
    if lane.is_steps:
        return palette.DENOISE_LIGHT if (span.step or 0) % 2 else palette.DENOISE
    return palette.stage_colour(lane.name)


def _pattern(span: Span) -> str:
    if span.cache_type is not None:
        return "/"
    return "x" if span.error is not None or span.is_open else ""


def _hover(lane: Lane, span: Span) -> str:
    took = numbers.duration(ms_from_ns(span.duration_ns))
    if lane.is_steps:
        timestep = "" if span.timestep is None else f", timestep {numbers.plain(span.timestep)}"
        return f"step {(span.step or 0) + 1}: {took}{timestep}"
    lines = [f"<b>{markup(lane.name)}</b>: {took}, from {numbers.duration(ms_from_ns(span.start_ns))}"]
    if span.peak_bytes is not None:
        lines.append(f"memory peak {numbers.size(span.peak_bytes)}")
    lines += [markup(note) for note in facts.span_notes(span)]
    if span.clock == "device":
        lines.append("by the device's clock")
    return "<br>".join(lines)


def _curve(curve: MemoryCurve, axis: Axis) -> Figure:
    device = markup(curve.device)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": device,
        "yaxis": "y2",
        "x": [axis.of(t_ns) for t_ns in curve.t_ns],
        "y": [round(reading / BYTES_PER_MIB, 2) for reading in curve.bytes],
        "line": {"color": palette.MEMORY, "width": 1.5},
        "hovertemplate": f"{device}: %{{y:,.0f}} MiB at %{{x}} {axis.unit}<extra></extra>",
        "showlegend": False,
    }


def _layout(report: RunReport, made: Timeline, axis: Axis, image_sources: Sequence[str]) -> Figure:
    lanes_px, memory_px = max(1, len(_lane_names(made))) * _LANE_PX, _MEMORY_PX if made.curves else 0
    plot_px = lanes_px + (memory_px + _GAP_PX if memory_px else 0)
    top_px = _TITLE_PX + (PICTURE_PX + _GAP_PX // 2 if image_sources else 0)
    height_px = top_px + plot_px + _BOTTOM_PX
    text = {"color": palette.NEUTRAL, "size": 12}
    layout: Figure = {
        "height": height_px,
        "margin": {"l": 10, "r": 20, "t": top_px, "b": _BOTTOM_PX},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": text,
        "barmode": "overlay",
        "bargap": 0.35,
        "hovermode": "closest",
        "title": _title(report, height_px),
        "images": _images(image_sources, plot_px),
        "annotations": _annotations(made, axis),
        "xaxis": {
            "anchor": "y2" if memory_px else "y",
            "range": [0, axis.of(max(made.total_ns, 1)) * 1.01],
            "ticksuffix": f" {axis.unit}",
            "gridcolor": _GRID,
            "zerolinecolor": _GRID,
        },
        "yaxis": {
            "domain": [1 - lanes_px / plot_px, 1],
            "categoryorder": "array",
            "categoryarray": _lane_names(made),
            "autorange": "reversed",
            "automargin": True,
            **_SPACED,
            "showgrid": False,
            "fixedrange": True,
        },
    }
    if memory_px:
        layout["yaxis2"] = _memory_axis(report, memory_px / plot_px)
    return layout


def _title(report: RunReport, height_px: int) -> Figure:
    head = f"<b>{markup(facts.model(report))}</b> · {report.task} · {facts.outcome(report)}"
    lines = [head]
    prompt = report.request.inputs.prompt
    if prompt:
        lines.append(f"“{markup(visible(prompt, limit=_PROMPT_LIMIT))}”")
    lines.append(" · ".join(markup(part) for part in facts.settings(report)))
    small = "<br>".join(f'<span style="font-size: 12px">{line}</span>' for line in lines[1:] if line)
    return {
        "text": f"{head}<br>{small}",
        "font": {"color": palette.NEUTRAL, "size": 15},
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1 - 22 / height_px,
        "yanchor": "top",
    }


def _images(sources: Sequence[str], plot_px: int) -> list[Figure]:
    share = 1 / max(4, len(sources))
    return [
        {
            "source": source,
            "xref": "paper",
            "yref": "paper",
            "x": index * share,
            "y": 1 + _GAP_PX / 2 / plot_px,
            "sizex": share * 0.97,
            "sizey": PICTURE_PX / plot_px,
            "xanchor": "left",
            "yanchor": "bottom",
            "sizing": "contain",
        }
        for index, source in enumerate(sources)
    ]


def _annotations(made: Timeline, axis: Axis) -> list[Figure]:
    """What caches saved and what did not come to its end, beside the bars."""
    return [
        {
            "y": _lane_name(lane),
            "text": markup(_lane_note(noted)),
            "showarrow": False,
            **_beside(noted[-1], made, axis),
        }
        for lane in made.lanes
        if (noted := [span for span in lane.spans if facts.span_notes(span)])
    ]


def _lane_note(noted: Sequence[Span]) -> str:
    """What is special about the latest of these bars; bars from one cache are told together, as they stand close."""
    cache_type = noted[-1].cache_type
    if len(noted) == 1 or cache_type is None or any(span.cache_type != cache_type for span in noted):
        return facts.span_notes(noted[-1])[0]
    known_ns = [span.saved_ns for span in noted if span.saved_ns is not None]
    saved = f", {numbers.saving(ms_from_ns(sum(known_ns)), what='they')}" if known_ns else ""
    return f"{len(noted)} from the {visible(cache_type)} cache{saved}"


def _beside(span: Span, made: Timeline, axis: Axis) -> Figure:
    """On the side of the bar that has room, else on the bar itself."""
    font = {"color": palette.NEUTRAL, "size": 11}
    if made.total_ns - span.end_ns > _NOTE_SHARE * made.total_ns:
        return {"x": axis.of(span.end_ns), "xanchor": "left", "xshift": 6, "font": font}
    if span.start_ns > _NOTE_SHARE * made.total_ns:
        return {"x": axis.of(span.start_ns), "xanchor": "right", "xshift": -6, "font": font}
    return {
        "x": axis.of(span.start_ns),
        "xanchor": "left",
        "xshift": 6,
        "font": {"color": palette.INK, "size": 11},
        "bgcolor": palette.CARD,
    }


def _memory_axis(report: RunReport, share: float) -> Figure:
    readings = [sample.bytes for sample in report.memory.samples] + list(report.memory.peak_bytes.values())
    low_mib, high_mib = min(readings) / BYTES_PER_MIB, max(readings) / BYTES_PER_MIB
    room_mib = max((high_mib - low_mib) * 0.08, 1)
    return {
        "domain": [0, share],
        "range": [low_mib - room_mib, high_mib + room_mib],
        "title": {"text": markup(facts.counted(report)), "font": {"size": 11}},
        "ticksuffix": " MiB",
        "nticks": 4,
        "automargin": True,
        **_SPACED,
        "gridcolor": _GRID,
        "zeroline": False,
        "fixedrange": True,
    }
