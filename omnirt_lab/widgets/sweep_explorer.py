"""A sweep to look into: its runs as lines over parallel axes, and those that are brushed as a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import traitlets

from omnirt_lab.records import Record
from omnirt_lab.records.base import require
from omnirt_lab.views.canvas import fit_png
from omnirt_lab.views.sweep import Shown
from omnirt_lab.views.sweep_page import Line, sweep_page
from omnirt_lab.widgets.hearing import HeardWidget

if TYPE_CHECKING:
    import pandas as pd

THUMBNAIL_PX: Final = 192
_FALLBACK: Final = "A sweep to look into, which lives as long as its kernel; the sweep itself stays when saved."


class Brush(Record, frozen=True, kw_only=True):
    """A part of one axis; runs outside of it are not selected, nor are those that were not measured on it."""

    axis: int
    """Its number, from 0 at the left."""

    low: float
    """Share of the axis, from its lower end."""

    high: float

    def __post_init__(self) -> None:
        require(self.axis >= 0, f"axis is {self.axis}; it must not be negative")
        require(self.low <= self.high, f"a brush from {self.low} to {self.high} has no inside")


class SweepExplorer(HeardWidget):
    """Draws the runs; the browser says where the person has brushed.

    Parameters
    ----------
    frame
        Asked for the sweep's table when the selection is read.
    """

    _esm = Path(__file__).with_name("sweep_explorer.js")
    _css = Path(__file__).with_name("sweep_explorer.css")

    page = traitlets.Dict().tag(sync=True)
    """A `SweepPage`."""

    thumbnails: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """One a line, or None: a picture's bytes; lines after the last have none."""

    brushes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """`Brush`es as JSON has them, at most one an axis: may be set from a cell, too."""

    def __init__(self, shown: Shown, frame: Callable[[], pd.DataFrame]) -> None:
        self._frame = frame
        self._page = sweep_page(shown)
        super().__init__(page=msgspec.to_builtins(self._page), thumbnails=_thumbnails(shown, self._page.lines))

    @property
    def selection(self) -> pd.DataFrame:
        """The runs that all brushes leave, with the columns of `sweep.to_pandas()`; all runs where nothing is brushed.

        Read anew each time, so that a cell that is run again has what is brushed then.
        """
        brushes = _decoded(self.brushes)
        return self._frame().iloc[[line.row for line in self._page.lines if is_inside(line, brushes)]]

    @traitlets.validate("brushes")
    def _check_brushes(self, proposal: Any) -> list[dict[str, Any]]:
        try:
            brushes = _decoded(proposal["value"])
        except msgspec.ValidationError as error:
            raise traitlets.TraitError(f"these are no brushes: {error}") from error
        if any(brush.axis >= len(self._page.axes) for brush in brushes):
            raise traitlets.TraitError(f"there are {len(self._page.axes)} axes, counted from 0")
        return [msgspec.to_builtins(brush) for brush in brushes]

    def __repr__(self) -> str:
        return _FALLBACK


def is_inside(line: Line, brushes: Sequence[Brush]) -> bool:
    """Whether every brush holds the run."""
    return all((share := line.shares[brush.axis]) is not None and brush.low <= share <= brush.high for brush in brushes)


def _decoded(brushes: object) -> list[Brush]:
    return msgspec.convert(brushes, list[Brush])


def _thumbnails(shown: Shown, lines: Sequence[Line]) -> list[bytes | None]:
    pictures = [shown.pictures[line.row] for line in lines if line.row < len(shown.pictures)]
    return [None if picture is None else fit_png(picture, THUMBNAIL_PX) for picture in pictures]
