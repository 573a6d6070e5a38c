"""Rows as an aligned text table."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

from omnirt_lab.views.quoting import visible

_GAP: Final = "  "


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


def columns_of(text: str) -> int:
    """Terminal columns that the text takes: wide East Asian characters and emoji take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(cell: str, width: int, to_the_right: bool) -> str:
    padding = " " * (width - columns_of(cell))
    return padding + cell if to_the_right else cell + padding
