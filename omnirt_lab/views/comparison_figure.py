"""Runs side by side as a plotly figure: their pictures, paired bars of the stage times, memory curves overlaid."""

from __future__ import annotations

from typing import Final

from omnirt_lab.folds import timeline
from omnirt_lab.folds.comparison import Side, Times
from omnirt_lab.folds.timeline import MemoryCurve
from omnirt_lab.units import BYTES_PER_MIB, ms_from_ns
from omnirt_lab.views import comparison, facts, numbers, palette
from omnirt_lab.views.bundle import data_uri
from omnirt_lab.views.comparison import Shown
from omnirt_lab.views.difference import difference_png
from omnirt_lab.views.plotly import Figure
from omnirt_lab.views.quoting import markup, shortened

PICTURE_PX: Final = 150
_CAPTION_PX: Final = 24
_BAR_PX: Final = 15
_STAGE_GAP_PX: Final = 14
_MEMORY_PX: Final = 120
_GAP_PX: Final = 56
_TITLE_LINE_PX: Final = 18
_BOTTOM_PX: Final = 44
_GRID: Final = "rgba(128, 132, 140, 0.25)"
_CLEAR: Final = "rgba(0, 0, 0, 0)"


def figure_dict(shown: Shown) -> Figure:
    """`data` and `layout`, as plotly's mime type carries them."""
    curves = [(index, curve) for index, side in enumerate(shown.sides) for curve in _curves(side)]
    data = [_bars(shown, index) for index in range(len(shown.sides))]
    data += [_curve(shown.sides[index].label, index, curve) for index, curve in curves]
    return {"data": data, "layout": _layout(shown, has_memory=bool(curves))}


def _bars(shown: Shown, index: int) -> Figure:
    rows = comparison.all_times(shown)
    return {
        "type": "bar",
        "orientation": "h",
        "name": shown.sides[index].label,
        "y": [_name(times) for times in rows],
        "x": [None if spread is None else round(spread.mean_ms, 4) for spread in (row.spreads[index] for row in rows)],
        "marker": {"color": palette.SIDES[index], "line": {"width": 0}},
        "text": [_beside(times, index) for times in rows],
        "textposition": "outside",
        "textfont": {"color": palette.NEUTRAL, "size": 11},
        "cliponaxis": False,
        "hovertext": [_hover(shown.sides[index], times, index) for times in rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _name(times: Times) -> str:
    return markup(shortened(times.name, 28))


def _beside(times: Times, index: int) -> str:
    changed = comparison.change(times, index)
    return comparison.figure(times, index) + (f"  <b>{changed}</b>" if changed else "")


def _hover(side: Side, times: Times, index: int) -> str:
    spread, warm_up_ms = times.spreads[index], times.warm_up_ms[index]
    lines = [f"<b>{side.label}</b> {markup(times.name)}: {_beside(times, index)}"]
    if spread is not None and spread.n > 1:
        low, high = numbers.duration(spread.min_ms), numbers.duration(spread.max_ms)
        lines.append(f"{spread.n} runs, {low} to {high}")
    if warm_up_ms is not None:
        lines.append(f"the run that loaded the model: {numbers.duration(warm_up_ms)}")
    return "<br>".join(lines)


def _curves(side: Side) -> tuple[MemoryCurve, ...]:
    return timeline.of_report(side.measured[0]).curves


def _curve(label: str, index: int, curve: MemoryCurve) -> Figure:
    name = f"{label} {markup(curve.device)}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "xaxis": "x2",
        "yaxis": "y2",
        "x": [round(ms_from_ns(t_ns), 3) for t_ns in curve.t_ns],
        "y": [round(reading / BYTES_PER_MIB, 2) for reading in curve.bytes],
        "line": {"color": palette.SIDES[index], "width": 1.8},
        "hovertemplate": f"{name}: %{{y:,.0f}} MiB at %{{x:,.0f}} ms<extra></extra>",
        "showlegend": False,
    }


def _layout(shown: Shown, *, has_memory: bool) -> Figure:
    rows = comparison.all_times(shown)
    bars_px = max(1, len(rows)) * (len(shown.sides) * _BAR_PX + _STAGE_GAP_PX)
    plot_px = bars_px + (_GAP_PX + _MEMORY_PX if has_memory else 0)
    head = _title_lines(shown)
    pictures = _pictures(shown)
    head_px = len(head) * _TITLE_LINE_PX + 18
    top_px = head_px + (PICTURE_PX + _CAPTION_PX + 14 if pictures else 0)
    height_px = top_px + plot_px + _BOTTOM_PX
    images, captions = _row(pictures, plot_px)
    layout: Figure = {
        "height": height_px,
        "margin": {"l": 10, "r": 24, "t": top_px, "b": _BOTTOM_PX},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": palette.NEUTRAL, "size": 12},
        "barmode": "group",
        "bargap": _STAGE_GAP_PX / (len(shown.sides) * _BAR_PX + _STAGE_GAP_PX),
        "hovermode": "closest",
        "showlegend": False,
        "title": _title(head, height_px),
        "images": images,
        "annotations": captions,
        "xaxis": _time_axis("y", _longest_ms(rows) * 1.28),
        "yaxis": {
            "domain": [1 - bars_px / plot_px, 1],
            "autorange": "reversed",
            "automargin": True,
            "showgrid": False,
            "fixedrange": True,
            "ticks": "outside",
            "ticklen": 6,
            "tickcolor": _CLEAR,
        },
    }
    if has_memory:
        layout["xaxis2"] = _time_axis("y2", None)
        layout["yaxis2"] = _memory_axis(shown, _MEMORY_PX / plot_px)
    return layout


def _title(lines: list[str], height_px: int) -> Figure:
    return {
        "text": "<br>".join(lines),
        "font": {"color": palette.NEUTRAL, "size": 12},
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1 - 14 / height_px,
        "yanchor": "top",
    }


def _title_lines(shown: Shown) -> list[str]:
    lines = []
    for index, side in enumerate(shown.sides):
        mark = f'<span style="color: {palette.SIDES[index]}">■</span>'
        settings = " · ".join(facts.settings(side.reports[0]))
        lines.append(f"{mark} <b>{side.label}</b>  {markup(comparison.title(side))} · {markup(settings)}")
        lines += [f"      {markup(line)}" for line in (comparison.prompt(side), *comparison.notes(side)) if line]
    return lines


def _pictures(shown: Shown) -> list[tuple[str, bytes]]:
    """Caption and picture: each side's first, then what differs from the first side's."""
    row = [(side.label, found[0]) for side, found in zip(shown.sides, shown.pictures, strict=True) if found]
    if not shown.pictures[0]:
        return row
    before = shown.pictures[0][0]
    for side, found in zip(shown.sides[1:], shown.pictures[1:], strict=True):
        made = difference_png(before, found[0]) if found else None
        if made is not None:
            row.append((f"{shown.sides[0].label} and {side.label}: {made.label}", made.png))
    return row


def _row(pictures: list[tuple[str, bytes]], plot_px: int) -> tuple[list[Figure], list[Figure]]:
    share = 1 / max(4, len(pictures))
    y = 1 + (_CAPTION_PX + 8) / plot_px
    images = [
        {
            "source": data_uri(picture, PICTURE_PX),
            "xref": "paper",
            "yref": "paper",
            "x": index * share,
            "y": y,
            "sizex": share * 0.96,
            "sizey": PICTURE_PX / plot_px,
            "xanchor": "left",
            "yanchor": "bottom",
            "sizing": "contain",
        }
        for index, (_, picture) in enumerate(pictures)
    ]
    captions = [
        {
            "text": caption,
            "xref": "paper",
            "yref": "paper",
            "x": index * share,
            "y": y,
            "xanchor": "left",
            "yanchor": "top",
            "showarrow": False,
            "font": {"size": 12},
        }
        for index, (caption, _) in enumerate(pictures)
    ]
    return images, captions


def _longest_ms(rows: tuple[Times, ...]) -> float:
    return max((spread.mean_ms for row in rows for spread in row.spreads if spread), default=1)


def _time_axis(anchor: str, end_ms: float | None) -> Figure:
    axis: Figure = {"anchor": anchor, "ticksuffix": " ms", "gridcolor": _GRID, "zerolinecolor": _GRID}
    return {**axis, "rangemode": "tozero"} if end_ms is None else {**axis, "range": [0, end_ms]}


def _memory_axis(shown: Shown, share: float) -> Figure:
    kind = shown.sides[0].measured[0].memory.kind
    return {
        "domain": [0, share],
        "title": {"text": facts.KIND_WORDS[kind] if kind else "memory", "font": {"size": 11}},
        "ticksuffix": " MiB",
        "nticks": 4,
        "automargin": True,
        "gridcolor": _GRID,
        "zeroline": False,
        "fixedrange": True,
    }
