"""Operators by stage, as tables and as bars."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from omnirt_lab.folds.operators import OperatorTotal, StageOperators
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import numbers, palette
from omnirt_lab.views.bundle import PLOTLY_MIME
from omnirt_lab.views.plotly import Figure
from omnirt_lab.views.quoting import markup, shortened, visible
from omnirt_lab.views.tables import table_text

Sort: TypeAlias = Callable[[OperatorTotal], float]

SORTS: Final[dict[str, Sort]] = {
    "self_cpu_time_total": lambda total: total.self_cpu_ns,
    "cpu_time_total": lambda total: total.cpu_ns,
    "self_device_time_total": lambda total: total.self_device_ns or 0,
    "device_time_total": lambda total: total.device_ns or 0,
    "count": lambda total: total.calls,
}
"""torch's word for an order → what it orders by, the largest first."""

OUTSIDE: Final = "outside of the stages"
CAVEAT: Final = (
    "The profiler slows what it watches: these times tell shares, and are not to be compared with other runs'."
)
_NAME_WIDTH: Final = 48
_BARS: Final = 12
_BAR_PX: Final = 24
_CLEAR: Final = "rgba(0, 0, 0, 0)"
_GRID: Final = "rgba(128, 132, 140, 0.25)"
_CARD_SCALE: Final = 1


class Shown(NamedTuple):
    """What the views of a profile are made from."""

    stages: tuple[StageOperators, ...]
    runs: int
    sort: str
    top: int


def mimebundle(shown: Shown) -> dict[str, Any]:
    """What a cell shows: bars, and the tables; no HTML."""
    from omnirt_lab.views.operators_png import bars_png  # Pillow

    return {
        PLOTLY_MIME: {**figure_dict(shown), "config": {"displaylogo": False, "responsive": True}},
        "image/png": base64.b64encode(bars_png(shown, scale=_CARD_SCALE)).decode(),
        "text/plain": profile_text(shown),
    }


def profile_text(shown: Shown) -> str:
    """What was profiled, then a table for each stage in which operators ran."""
    parts = [headline(shown), CAVEAT]
    for stage in shown.stages:
        if stage.operators:
            parts += ["", stage_line(stage), "", _table(stage, shown)]
    return "\n".join(parts)


def headline(shown: Shown) -> str:
    """`profile of 1 run: 12,345 operator calls, 210 ms in operators`."""
    totals = [total for stage in shown.stages for total in stage.operators]
    in_operators = numbers.duration(ms_from_ns(sum(total.self_cpu_ns for total in totals)))
    calls = numbers.count(sum(total.calls for total in totals), "operator call")
    return f"profile of {numbers.count(shown.runs, 'run')}: {calls}, {in_operators} in operators"


def stage_line(stage: StageOperators) -> str:
    """`denoise: 312 ms, of which 240 ms (77 %) in operators`."""
    inside = numbers.duration(ms_from_ns(stage.self_cpu_ns))
    if not stage.duration_ns:
        return f"{visible(stage.stage or OUTSIDE)}: {inside} in operators"
    share = numbers.percent(stage.self_cpu_ns / stage.duration_ns)
    took = numbers.duration(ms_from_ns(stage.duration_ns))
    return f"{visible(stage.stage or OUTSIDE)}: {took}, of which {inside} ({share}) in operators"


def ordered(stage: StageOperators, sort: str) -> list[OperatorTotal]:
    """The stage's operators, the largest by `sort` first."""
    return sorted(stage.operators, key=SORTS[sort], reverse=True)


def top_operators(shown: Shown, limit: int) -> list[str]:
    """Names of the operators that are the largest over all stages."""
    sums: dict[str, float] = {}
    for stage in shown.stages:
        for total in stage.operators:
            sums[total.name] = sums.get(total.name, 0) + SORTS[shown.sort](total)
    return sorted(sums, key=lambda name: -sums[name])[:limit]


def amounts(stage: StageOperators, shown: Shown, names: Sequence[str]) -> list[float]:
    """What the stage has of each operator: milliseconds, or calls where they are sorted by count."""
    by_name = {total.name: SORTS[shown.sort](total) for total in stage.operators}
    unit = 1.0 if shown.sort == "count" else 1e6
    return [by_name.get(name, 0) / unit for name in names]


def figure_dict(shown: Shown) -> Figure:
    """A bar for each of the largest operators, made of the stages in which it ran."""
    names = top_operators(shown, min(shown.top, _BARS))
    labels = [markup(shortened(visible(name), _NAME_WIDTH)) for name in names]
    suffix = "" if shown.sort == "count" else " ms"
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "name": markup(stage.stage or OUTSIDE),
                "y": labels,
                "x": [round(amount, 3) for amount in amounts(stage, shown, names)],
                "marker": {"color": stage_colour(stage), "line": {"width": 0}},
                "hovertemplate": f"%{{y}}: %{{x:,.2f}}{suffix}",
            }
            for stage in shown.stages
            if any(amounts(stage, shown, names))
        ],
        "layout": {
            "barmode": "stack",
            "height": 130 + _BAR_PX * len(names),
            "margin": {"l": 10, "r": 20, "t": 60, "b": 40},
            "paper_bgcolor": _CLEAR,
            "plot_bgcolor": _CLEAR,
            "font": {"color": palette.NEUTRAL, "size": 12},
            "title": {"text": f"{headline(shown)}, by {shown.sort}", "x": 0, "font": {"size": 15}},
            "xaxis": {"ticksuffix": suffix, "gridcolor": _GRID, "zerolinecolor": _GRID},
            "yaxis": {"autorange": "reversed", "automargin": True, "fixedrange": True, "showgrid": False},
            "legend": {"orientation": "h", "y": -0.15},
            "showlegend": True,
        },
    }


def stage_colour(stage: StageOperators) -> str:
    """The colour that the stage has in every view."""
    return palette.NEUTRAL if stage.stage is None else palette.stage_colour(stage.stage)


def _table(stage: StageOperators, shown: Shown) -> str:
    has_device = any(total.self_device_ns is not None for total in stage.operators)
    header = ["operator", "calls", "self CPU", "share", "CPU", *(["self device", "device"] if has_device else [])]
    found = ordered(stage, shown.sort)
    whole_ns = stage.self_cpu_ns or 1
    rows = [
        [
            shortened(visible(total.name), _NAME_WIDTH),
            f"{total.calls:,}",
            numbers.duration(ms_from_ns(total.self_cpu_ns)),
            numbers.percent(total.self_cpu_ns / whole_ns),
            numbers.duration(ms_from_ns(total.cpu_ns)),
            *([_device(total.self_device_ns), _device(total.device_ns)] if has_device else []),
        ]
        for total in found[: shown.top]
    ]
    left_out = len(found) - len(rows)
    last = [f"… and {numbers.count(left_out, 'operator')} more"] if left_out else []
    return "\n".join([table_text(header, rows, right=range(1, len(header))), *last])


def _device(time_ns: int | None) -> str:
    return numbers.UNKNOWN if time_ns is None else numbers.duration(ms_from_ns(time_ns))
