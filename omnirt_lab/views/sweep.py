"""A sweep's table, its parallel coordinates, and the words that its views share."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from omnirt_lab.folds.grid import Axis, Cell
from omnirt_lab.records import Json
from omnirt_lab.units import BYTES_PER_MIB
from omnirt_lab.views import numbers, palette
from omnirt_lab.views.bundle import PLOTLY_MIME
from omnirt_lab.views.plotly import Figure
from omnirt_lab.views.quoting import markup, shortened, visible
from omnirt_lab.views.tables import table_text

MAX_PICTURES: Final = 200
_MAX_ROWS: Final = 200
_VALUE_WIDTH: Final = 32
_ERROR_WIDTH: Final = 60
_TICK_WIDTH: Final = 16
_MAX_TICKS: Final = 20
_CHARACTER_PX: Final = 7
_PROMPT_LIMIT: Final = 110
_CLEAR: Final = "rgba(0, 0, 0, 0)"
_CARD_SCALE: Final = 1
_SCALE: Final = [[0, "#2a9d8f"], [0.5, "#e09f3e"], [1, "#b3261e"]]


class Shown(NamedTuple):
    """What the views of a sweep are made from."""

    name: str
    prompt: str
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    saved_ms: float | None

    pictures: tuple[bytes | None, ...]
    """Of the first cells, at most `MAX_PICTURES`."""


def mimebundle(shown: Shown) -> dict[str, Any]:
    """What a cell shows: plotly where two runs can be told apart by it, the grid of pictures, the table; no HTML."""
    from omnirt_lab.views.sweep_png import grid_png  # Pillow

    figure = figure_dict(shown)
    plotly = {PLOTLY_MIME: {**figure, "config": {"displaylogo": False, "responsive": True}}} if figure else {}
    return {
        **plotly,
        "image/png": base64.b64encode(grid_png(shown, scale=_CARD_SCALE)).decode(),
        "text/plain": sweep_text(shown),
    }


def outcome(cells: Sequence[Cell]) -> str:
    """`23 of 24 cells succeeded, 1 failed`."""
    states = Counter(cell.state for cell in cells)
    parts = [f"{states['succeeded']:,} of {numbers.count(len(cells), 'cell')} succeeded"]
    parts += [f"{states[state]:,} {state}" for state in ("failed", "cancelled", "lost") if states[state]]
    return ", ".join(parts) + (f", {states[None]:,} not run" if states[None] else "")


def summary(shown: Shown) -> tuple[str, ...]:
    """The outcome, what a run took, and what the embedding cache saved."""
    done = [cell for cell in shown.cells if cell.state == "succeeded" and cell.duration_ms is not None]
    times_ms = [(cell.duration_ms or 0) / (cell.batch_size or 1) for cell in done]
    lines = [outcome(shown.cells)]
    if times_ms:
        lines.append(f"{numbers.duration(sum(times_ms))} of runs, median {numbers.duration(median(times_ms))}")
    largest = max((cell.batch_size or 1 for cell in done), default=1)
    if largest > 1:
        lines.append(f"up to {largest} runs a call: each one's total is the whole call's")
    if shown.saved_ms is not None:
        lines.append(f"the text-embedding cache {numbers.saving(shown.saved_ms)}")
    if any(cell.state is None for cell in shown.cells):
        lines.append(f"resume() goes on, as does a sweep with name={shown.name!r}")
    return tuple(lines)


def sweep_text(shown: Shown) -> str:
    """The summary and one line a cell, failed ones in their place."""
    header = [axis.name for axis in shown.axes] + ["run", "state", "total", "denoise", "peak", "saved"]
    has_errors = any(cell.error for cell in shown.cells)
    rows = [_row(cell, has_errors=has_errors) for cell in shown.cells[:_MAX_ROWS]]
    first_figure = len(shown.axes) + 2
    table = table_text(header + ["error"] * has_errors, rows, right=range(first_figure, first_figure + 4))
    left_out = len(shown.cells) - len(rows)
    last = [f"… and {left_out:,} more: to_pandas() has them all"] if left_out else []
    return "\n".join([f"sweep {shown.name}", *summary(shown), "", table, *last])


def value(found: Json, width: int = _VALUE_WIDTH) -> str:
    """A swept value as the user would type it."""
    if isinstance(found, float):
        return numbers.plain(found)
    return shortened(visible(str(found)), width)


def figure_dict(shown: Shown) -> Figure | None:
    """Parallel coordinates over the swept options and the figures of the runs that succeeded; None for fewer than two.

    A line is a run, coloured by its duration; drag along an axis to select.
    """
    done = [cell for cell in shown.cells if cell.state == "succeeded"]
    if len(done) < 2:
        return None
    dimensions = [_axis_dimension(axis, [c.values[i] for c in done]) for i, axis in enumerate(shown.axes)]
    figures: list[tuple[str, Callable[[Cell], float | None]]] = [
        ("total ms", lambda cell: cell.duration_ms),
        ("denoise ms", lambda cell: cell.denoise_ms),
        ("peak MiB", lambda cell: None if cell.peak_bytes is None else cell.peak_bytes / BYTES_PER_MIB),
        ("saved ms", lambda cell: cell.saved_ms),
    ]
    for label, read in figures:
        known = [found for cell in done if (found := read(cell)) is not None]
        if len(known) == len(done):
            dimensions.append(_number_dimension(label, known))
    lines = {
        "color": [round(cell.duration_ms or 0, 3) for cell in done],
        "colorscale": _SCALE,
        "showscale": True,
        "colorbar": {"title": {"text": "total ms", "font": {"size": 11}}, "thickness": 10, "outlinewidth": 0},
    }
    font = {"color": palette.INK, "size": 11}
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": lines,
        "labelfont": {"color": palette.INK, "size": 12},
        "tickfont": font,
        "rangefont": {"color": _CLEAR, "size": 1},
        "unselected": {"line": {"opacity": 0.08}},
    }
    return {"data": [trace], "layout": _layout(shown, left_px=_left_px(dimensions[0]))}


def _axis_dimension(axis: Axis, found: Sequence[Json]) -> Figure:
    """Numbers at their places; anything else at equal distances, in the order given."""
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in axis.values):
        numbers_found = [float(item) for item in found if isinstance(item, int | float)]
        marks = sorted({float(item) for item in axis.values if isinstance(item, int | float)})
        dimension = _number_dimension(axis.name, numbers_found)
        if len(marks) > _MAX_TICKS:
            return dimension
        return {**dimension, "tickvals": marks, "ticktext": [numbers.plain(mark) for mark in marks]}
    places = [axis.values.index(item) for item in found]
    return {
        **_number_dimension(axis.name, [float(place) for place in places]),
        "tickvals": list(range(len(axis.values)))[:_MAX_TICKS],
        "ticktext": [value(item, _TICK_WIDTH) for item in axis.values][:_MAX_TICKS],
    }


def _number_dimension(label: str, found: Sequence[float]) -> Figure:
    low, high = min(found), max(found)
    room = (high - low) * 0.03 or max(abs(high) * 0.05, 0.5)
    return {
        "label": markup(shortened(label, 24)),
        "values": [round(item, 4) for item in found],
        "range": [low - room, high + room],
    }


def _left_px(dimension: Figure) -> int:
    """Room for the labels at the left of the first axis."""
    return 40 + _CHARACTER_PX * max(map(len, dimension.get("ticktext", ())), default=5)


def _layout(shown: Shown, *, left_px: int) -> Figure:
    """On a ground of its own: plotly puts a light halo around these labels, which a dark page would show."""
    lines = [
        f"<b>sweep {markup(shown.name)}</b>",
        f"“{markup(visible(shown.prompt, limit=_PROMPT_LIMIT))}”" if not _has_prompts(shown) else "",
        " · ".join(markup(line) for line in summary(shown)[:3]),
    ]
    return {
        "height": 420,
        "margin": {"l": left_px, "r": 60, "t": 130, "b": 36},
        "paper_bgcolor": palette.CARD,
        "plot_bgcolor": palette.CARD,
        "font": {"color": palette.INK, "size": 12},
        "title": {
            "text": "<br>".join(line for line in lines if line),
            "font": {"color": palette.INK, "size": 13},
            "x": 0.01,
            "xanchor": "left",
            "y": 0.96,
            "yanchor": "top",
        },
    }


def _has_prompts(shown: Shown) -> bool:
    return any(axis.name == "prompt" for axis in shown.axes)


def _row(cell: Cell, *, has_errors: bool) -> list[str]:
    return [
        *map(value, cell.values),
        numbers.UNKNOWN if cell.run_id is None else cell.run_id[:12],
        cell.state or "not run",
        numbers.duration(cell.duration_ms),
        numbers.duration(cell.denoise_ms),
        numbers.size(cell.peak_bytes),
        numbers.duration(cell.saved_ms),
        *([shortened(visible(cell.error or ""), _ERROR_WIDTH)] if has_errors else []),
    ]
