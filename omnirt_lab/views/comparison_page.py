"""What the explorer of a comparison has to draw: every word and every share, so that the browser computes none."""

from __future__ import annotations

from typing import Final

from omnirt_lab.folds.comparison import Side, Times
from omnirt_lab.records import Record
from omnirt_lab.views import comparison, facts, palette
from omnirt_lab.views.comparison import Shown
from omnirt_lab.views.quoting import shortened, visible

_FIELD_WIDTH: Final = 60
_VALUE_WIDTH: Final = 60


class Pane(Record, frozen=True, kw_only=True):
    """One side: what stands beside its picture."""

    label: str

    colour: str

    title: str

    lines: tuple[str, ...]
    """Prompt, settings, and what must be known to read its figures."""


class Bar(Record, frozen=True, kw_only=True):
    """One side's time."""

    label: str

    colour: str

    share: float | None
    """Of the longest in the comparison; None where it was not measured."""

    figure: str
    """Of repeats the mean and the standard deviation."""

    change: str
    """Against the first side; empty for the first itself."""

    is_notable: bool
    """Whether the change is larger than both sides' spread."""


class Row(Record, frozen=True, kw_only=True):
    """A stage, the median step or the whole run, with a bar a side."""

    name: str

    bars: tuple[Bar, ...]


class ComparisonPage(Record, frozen=True, kw_only=True):
    """The whole page but the pictures."""

    panes: tuple[Pane, ...]

    rows: tuple[Row, ...]

    differences: tuple[tuple[str, ...], ...]
    """Field of the request, the environment …, then its value on each side."""

    picture_count: int
    """Of the side that has most."""


def comparison_page(shown: Shown) -> ComparisonPage:
    """Put into words what is compared."""
    longest_ms = max((s.mean_ms for row in comparison.all_times(shown) for s in row.spreads if s), default=0) or 1
    return ComparisonPage(
        panes=tuple(_pane(side, palette.SIDES[index]) for index, side in enumerate(shown.sides)),
        rows=tuple(_row(shown, times, longest_ms) for times in comparison.all_times(shown)),
        differences=tuple(
            (shortened(visible(name), _FIELD_WIDTH), *(comparison.value(found, _VALUE_WIDTH) for found in values))
            for name, values in shown.differences.items()
        ),
        picture_count=max(map(len, shown.pictures), default=0),
    )


def _pane(side: Side, colour: str) -> Pane:
    words = (comparison.prompt(side), " · ".join(facts.settings(side.reports[0])), *comparison.notes(side))
    return Pane(
        label=side.label, colour=colour, title=comparison.title(side), lines=tuple(line for line in words if line)
    )


def _row(shown: Shown, times: Times, longest_ms: float) -> Row:
    return Row(
        name=visible(times.name),
        bars=tuple(
            Bar(
                label=side.label,
                colour=palette.SIDES[index],
                share=None if spread is None else spread.mean_ms / longest_ms,
                figure=comparison.figure(times, index),
                change=comparison.change(times, index),
                is_notable=comparison.is_beyond_spread(times, index),
            )
            for index, (side, spread) in enumerate(zip(shown.sides, times.spreads, strict=True))
        ),
    )
