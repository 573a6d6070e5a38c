"""Rows as an aligned text table: any rows, and those of the history."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Final

from omnirt_lab.views import numbers
from omnirt_lab.views.quoting import shortened, visible

if TYPE_CHECKING:
    from omnirt_lab.records import RunRow

_GAP: Final = "  "
_HISTORY: Final = ("run", "when", "state", "model", "steps", "total", "peak", "saved", "prompt")
_HISTORY_RIGHT: Final = (4, 5, 6, 7)
_MODEL_WIDTH: Final = 24
_PROMPT_WIDTH: Final = 40
_TAGS_WIDTH: Final = 30
_STAR: Final = "★"


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A table with one line a row; cells are shown, never interpreted.

    Parameters
    ----------
    right
        Indexes of the columns that are aligned to the right, as numbers are.
    """
    cells = [list(header), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(columns_of(row[index]) for row in cells) for index in range(len(header))]
    rights = frozenset(right)
    lines = [
        _GAP.join(_padded(cell, widths[index], index in rights) for index, cell in enumerate(row)).rstrip()
        for row in cells
    ]
    rule = _GAP.join("─" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def history_text(rows: Iterable[RunRow]) -> str:
    """Runs of the history, one a line; `when` is in local time, `saved` what caches saved.

    The user's ratings and tags have columns where any of the runs has one.
    """
    header, cells = _history_table(list(rows))
    return table_text(header, cells, right=_HISTORY_RIGHT)


def history_html(rows: Iterable[RunRow]) -> str:
    """The same table for a notebook, in the notebook's own style; every cell is escaped."""
    header, cells = _history_table(list(rows))
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{_html_cells(row)}</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_cells(cells: Iterable[str]) -> str:
    sides = ("right" if index in _HISTORY_RIGHT else "left" for index in itertools.count())
    return "".join(
        f'<td style="white-space:nowrap;text-align:{side}">{escape(cell)}</td>'
        for side, cell in zip(sides, cells, strict=False)
    )


def _history_table(rows: list[RunRow]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    cells = [_history_cells(row) for row in rows]
    if not any(row.rating or row.tags for row in rows):
        return _HISTORY, cells
    said = [(_STAR * (row.rating or 0), shortened(", ".join(row.tags), _TAGS_WIDTH)) for row in rows]
    return (*_HISTORY, "rating", "tags"), [(*row, *words) for row, words in zip(cells, said, strict=True)]


def _history_cells(row: RunRow) -> tuple[str, ...]:
    when = datetime.fromtimestamp(row.enqueued_at_ms / 1000).astimezone()
    return (
        row.run_id,
        f"{when:%Y-%m-%d %H:%M}",
        row.state,
        shortened(row.model, _MODEL_WIDTH),
        numbers.UNKNOWN if row.steps is None else f"{row.steps:,}",
        numbers.duration(row.duration_ms),
        numbers.size(row.peak_bytes),
        numbers.duration(row.saved_ms),
        shortened(visible(row.prompt), _PROMPT_WIDTH),
    )


def columns_of(text: str) -> int:
    """Terminal columns that the text takes: wide East Asian characters and emoji take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(cell: str, width: int, to_the_right: bool) -> str:
    padding = " " * (width - columns_of(cell))
    return padding + cell if to_the_right else cell + padding
