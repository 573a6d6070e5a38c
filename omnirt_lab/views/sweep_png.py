"""A sweep as one picture: a grid of what the runs drew, with the swept values and the times."""

from __future__ import annotations

from typing import Final, NamedTuple

from omnirt_lab.folds.grid import Cell
from omnirt_lab.views import numbers, palette
from omnirt_lab.views.canvas import Canvas, clip, wrap
from omnirt_lab.views.png import PADDING, WIDTH, Block, drawable, stacked
from omnirt_lab.views.quoting import visible
from omnirt_lab.views.sweep import MAX_PICTURES, Shown, summary, value

_LEFT: Final = PADDING
_INNER: Final = WIDTH - 2 * PADDING
_LINE: Final = 18
_TITLE: Final = 26
_TEXT: Final = 12
_SMALL: Final = 10
_LABELS: Final = 128
_GAP: Final = 8
_CAPTION: Final = 18
_MAX_COLUMNS: Final = 10
_MAX_SIDE: Final = 108
_HEADER: Final = 22
_PROMPT_LIMIT: Final = 200


class _Layout(NamedTuple):
    """How the cells lie: `columns` of them in a line, each `side` layout pixels wide."""

    columns: int
    lines: int
    side: int
    left: int

    has_header: bool
    """Whether a column is one value of the last axis; else each picture says its own."""


def grid_png(shown: Shown, *, scale: int = 2) -> bytes:
    """PNG bytes of the grid's card, 760 layout pixels wide; `scale` picture pixels for one of them."""
    return stacked((_head(shown), _grid(shown), _foot(shown)), scale=scale)


def _head(shown: Shown) -> Block:
    prompts = "" if any(axis.name == "prompt" for axis in shown.axes) else shown.prompt
    quoted = f"“{visible(prompts, limit=_PROMPT_LIMIT)}”" if prompts else ""
    lines = [(line, palette.INK) for line in wrap(quoted, _TEXT, _INNER, max_lines=2)]
    for text in ("  ·  ".join(summary(shown)[:3]), *summary(shown)[3:]):
        lines += [(line, palette.MUTED) for line in wrap(drawable(text), _TEXT, _INNER, max_lines=2)]

    def draw(canvas: Canvas, top: int) -> None:
        name = clip(f"sweep {visible(shown.name)}", 16, _INNER)
        canvas.text(_LEFT, top + 15, name, size=16, colour=palette.INK, weight="bold")
        for row, (line, colour) in enumerate(lines):
            canvas.text(_LEFT, top + _TITLE + row * _LINE + 12, line, size=_TEXT, colour=colour)

    return Block(_TITLE + len(lines) * _LINE, draw)


def _grid(shown: Shown) -> Block:
    layout = _layout(shown)
    per_row = len(shown.axes[-1].values)
    row_height = layout.side + _CAPTION + _GAP
    header = _HEADER if layout.has_header else 0
    last_row, last_place = divmod(min(len(shown.cells), MAX_PICTURES) - 1, per_row)
    lines = last_row * layout.lines + last_place // layout.columns + 1

    def draw(canvas: Canvas, top: int) -> None:
        if layout.has_header:
            _column_labels(canvas, shown, layout, top)
        for index, cell in enumerate(shown.cells[:MAX_PICTURES]):
            row, place = divmod(index, per_row)
            line, column = divmod(place, layout.columns)
            y = top + header + (row * layout.lines + line) * row_height
            if place == 0:
                _row_label(canvas, shown, cell, y)
            x = layout.left + column * (layout.side + _GAP)
            _cell(canvas, shown, index, layout, x, y)

    return Block(header + lines * row_height - _GAP, draw)


def _layout(shown: Shown) -> _Layout:
    """A line a combination of the outer axes; where the last axis is long, several."""
    per_row = len(shown.axes[-1].values)
    left = _LEFT + (_LABELS if len(shown.axes) > 1 else 0)
    lines = -(-per_row // _MAX_COLUMNS)
    columns = -(-per_row // lines)
    side = min(_MAX_SIDE, (WIDTH - PADDING - left - _GAP * (columns - 1)) // columns)
    return _Layout(columns, lines, side, left, has_header=lines == 1)


def _column_labels(canvas: Canvas, shown: Shown, layout: _Layout, top: int) -> None:
    axis = shown.axes[-1]
    for column, item in enumerate(axis.values):
        x = layout.left + column * (layout.side + _GAP)
        whole = drawable(f"{axis.name} {value(item)}")
        text = clip(whole if layout.side > 70 or column == 0 else drawable(value(item)), _SMALL + 1, layout.side + 4)
        canvas.text(x, top + 10, text, size=_SMALL + 1, colour=palette.INK, anchor="lm", weight="bold")


def _row_label(canvas: Canvas, shown: Shown, cell: Cell, y: int) -> None:
    """The outer axes' values at the left of their line."""
    row = 0
    for axis, item in zip(shown.axes[:-1], cell.values[:-1], strict=True):
        text = drawable(value(item, 80) if axis.name == "prompt" else f"{axis.name} {value(item)}")
        for line in wrap(text, _SMALL + 1, _LABELS - 12, max_lines=3):
            canvas.text(_LEFT, y + 8 + row * 15, line, size=_SMALL + 1, colour=palette.INK, anchor="lm")
            row += 1


def _cell(canvas: Canvas, shown: Shown, index: int, layout: _Layout, x: int, y: int) -> None:
    cell, picture, side = shown.cells[index], shown.pictures[index], layout.side
    if picture is not None:
        canvas.picture(picture, x, y, side, frame=palette.BORDER)
    elif cell.state is None:
        canvas.bar(x, y, x + side, y + side, colour=palette.CARD, outline=palette.BORDER)
    else:
        canvas.hatch(x, y, x + side, y + side, colour=palette.RULE, background=palette.CARD)
        what = (cell.error or "").partition(":")[0] or "no picture"
        for row, line in enumerate(wrap(visible(what), _SMALL, side - 8, max_lines=3)):
            canvas.text(x + 4, y + 12 + row * 13, line, size=_SMALL, colour=palette.ALERT, anchor="lm")
    own = "" if layout.has_header else f"{shown.axes[-1].name} {value(cell.values[-1], 16)} · "
    text = f"{own}{'not run' if cell.state is None else _took(cell)}"
    colour = palette.MUTED if cell.state in ("succeeded", None) else palette.ALERT
    canvas.text(x, y + side + 9, clip(drawable(text), _SMALL, side + 6), size=_SMALL, colour=colour, anchor="lm")


def _took(cell: Cell) -> str:
    return numbers.duration(cell.duration_ms) if cell.state == "succeeded" else str(cell.state)


def _foot(shown: Shown) -> Block:
    left_out = len(shown.cells) - MAX_PICTURES
    if left_out <= 0:
        return Block(0, lambda _canvas, _top: None)
    text = f"and {left_out:,} more: to_pandas() has them all"

    def draw(canvas: Canvas, top: int) -> None:
        canvas.text(_LEFT, top + 9, text, size=_TEXT, colour=palette.MUTED, anchor="lm")

    return Block(_LINE, draw)
