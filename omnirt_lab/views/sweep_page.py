"""What the explorer of a sweep has to draw: its axes, a line a run, and every word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from omnirt_lab.folds.grid import Axis, Cell
from omnirt_lab.records import Json, Record
from omnirt_lab.views import numbers, palette, sweep
from omnirt_lab.views.quoting import shortened, visible
from omnirt_lab.views.sweep import Shown, value

_LABEL_WIDTH: Final = 24
_TICK_WIDTH: Final = 16
_MAX_TICKS: Final = 12
_ERROR_WIDTH: Final = 120
_PROMPT_LIMIT: Final = 200
_ROOM: Final = 0.04
"""Share of an axis that stays free at both ends, so that its first and last runs can be brushed."""

_STOPS: Final = ((42, 157, 143), (224, 159, 62), (179, 38, 30))
"""Red, green and blue of the quickest, the middle and the slowest run: the scale of the plotly figure."""

_FIGURES: Final[tuple[tuple[str, Callable[[Cell], float | None], Callable[[float | None], str]], ...]] = (
    ("total", lambda cell: cell.duration_ms, numbers.duration),
    ("denoise", lambda cell: cell.denoise_ms, numbers.duration),
    ("peak", lambda cell: cell.peak_bytes, numbers.size),
    ("saved", lambda cell: cell.saved_ms, numbers.duration),
)


class Coordinate(Record, frozen=True, kw_only=True):
    """One axis: a swept option, or a figure of the runs."""

    label: str

    ticks: tuple[tuple[float, str], ...]
    """Share of the axis from its lower end, and what is written there."""


class Line(Record, frozen=True, kw_only=True):
    """One run."""

    row: int
    """Its cell's number, which is its row's in the sweep's DataFrame."""

    shares: tuple[float | None, ...]
    """Where it meets each axis; None where it was not measured."""

    words: tuple[str, ...]
    """Its value on each axis."""

    title: str
    """What was swept, with its values."""

    colour: str
    """By how long it took."""

    note: str = ""
    """How it ended, if not well."""


class SweepPage(Record, frozen=True, kw_only=True):
    """The whole page but the pictures."""

    title: str

    prompt: str
    """Empty where the prompt is an axis."""

    summary: tuple[str, ...]

    axes: tuple[Coordinate, ...]

    lines: tuple[Line, ...]
    """Of the cells that have been run."""


def sweep_page(shown: Shown) -> SweepPage:
    """Lay the runs of a sweep on parallel axes."""
    rows = [row for row, cell in enumerate(shown.cells) if cell.state is not None]
    cells = [shown.cells[row] for row in rows]
    columns = [_swept(axis, [cell.values[index] for cell in cells]) for index, axis in enumerate(shown.axes)]
    for label, read, words in _FIGURES:
        found = [read(cell) for cell in cells]
        columns += [_figure(label, found, words)] if any(item is not None for item in found) else []
    times_ms = [cell.duration_ms for cell in cells]
    return SweepPage(
        title=f"sweep {visible(shown.name)}",
        prompt="" if any(axis.name == "prompt" for axis in shown.axes) else visible(shown.prompt, limit=_PROMPT_LIMIT),
        summary=sweep.summary(shown),
        axes=tuple(coordinate for coordinate, _, _ in columns),
        lines=tuple(
            Line(
                row=row,
                shares=tuple(shares[number] for _, shares, _ in columns),
                words=tuple(words[number] for _, _, words in columns),
                title=_title(shown, cell),
                colour=colour,
                note=_note(cell),
            )
            for number, (row, cell, colour) in enumerate(zip(rows, cells, _colours(times_ms), strict=True))
        ),
    )


_Column = tuple[Coordinate, list[float | None], list[str]]


def _swept(axis: Axis, found: Sequence[Json]) -> _Column:
    """Numbers at their places; anything else at equal distances, in the order given."""
    if all(isinstance(item, int | float) and not isinstance(item, bool) for item in axis.values):
        places = {item: float(item) for item in axis.values if isinstance(item, int | float)}
        share = _scale(list(places.values()))
        marks = sorted(places.values())
        ticks = [(share(mark), numbers.plain(mark)) for mark in marks]
        at = [share(float(item)) for item in found if isinstance(item, int | float)]
    else:
        share = _scale([0.0, float(len(axis.values) - 1)])
        ticks = [(share(place), value(item, _TICK_WIDTH)) for place, item in enumerate(axis.values)]
        at = [share(axis.values.index(item)) for item in found]
    label = shortened(visible(axis.name), _LABEL_WIDTH)
    return Coordinate(label=label, ticks=_some(ticks)), [*at], [value(item) for item in found]


def _figure(label: str, found: Sequence[float | None], words: Callable[[float | None], str]) -> _Column:
    known = [item for item in found if item is not None]
    share, low, high = _scale(known), min(known), max(known)
    marks = [low, (low + high) / 2, high] if high > low else [low]
    ticks = tuple((share(mark), words(mark)) for mark in marks)
    shares = [None if item is None else share(item) for item in found]
    return Coordinate(label=label, ticks=ticks), shares, [words(item) for item in found]


def _scale(found: Sequence[float]) -> Callable[[float], float]:
    low, high = min(found), max(found)
    if high == low:
        return lambda _: 0.5
    return lambda item: round(_ROOM + (1 - 2 * _ROOM) * (item - low) / (high - low), 5)


def _some(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """As many as there is room for, evenly chosen, and so that two do not stand on each other."""
    every = -(-len(ticks) // _MAX_TICKS)
    chosen = list(ticks[::every])
    apart = [chosen[0], *(after for before, after in pairwise(chosen) if after[0] - before[0] > 1 / 30)]
    return tuple(apart)


def _colours(times_ms: Sequence[float | None]) -> list[str]:
    known = [time_ms for time_ms in times_ms if time_ms is not None]
    low, room = min(known, default=0), (max(known, default=0) - min(known, default=0)) or 1
    return [palette.MUTED if time_ms is None else _mixed((time_ms - low) / room) for time_ms in times_ms]


def _mixed(share: float) -> str:
    place = share * (len(_STOPS) - 1)
    index = min(int(place), len(_STOPS) - 2)
    mix = [round(a + (b - a) * (place - index)) for a, b in zip(_STOPS[index], _STOPS[index + 1], strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mix)


def _title(shown: Shown, cell: Cell) -> str:
    names = [shortened(visible(axis.name), _LABEL_WIDTH) for axis in shown.axes]
    parts = [
        value(item) if name == "prompt" else f"{name} {value(item)}"
        for name, item in zip(names, cell.values, strict=True)
    ]
    return " · ".join(parts)


def _note(cell: Cell) -> str:
    if cell.state == "succeeded":
        return ""
    return shortened(visible(f"{cell.state}: {cell.error}" if cell.error else str(cell.state)), _ERROR_WIDTH)
