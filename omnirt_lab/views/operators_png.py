"""A profile as a picture: the largest operators as bars, made of the stages in which they ran."""

from __future__ import annotations

from typing import Final

from omnirt_lab.views import numbers, palette
from omnirt_lab.views.canvas import Canvas, clip, wrap
from omnirt_lab.views.operators import (
    CAVEAT,
    Shown,
    amounts,
    headline,
    stage_colour,
    stage_line,
    top_operators,
)
from omnirt_lab.views.png import PADDING, WIDTH, Block, drawable, stacked
from omnirt_lab.views.quoting import visible

_INNER: Final = WIDTH - 2 * PADDING
_LINE: Final = 18
_TITLE: Final = 26
_BAR: Final = 20
_NAMES: Final = 260
_FIGURES: Final = 70
_BARS: Final = 12
_SWATCH: Final = 10


def bars_png(shown: Shown, *, scale: int = 2) -> bytes:
    """PNG bytes of the card, 760 layout pixels wide; `scale` picture pixels for one of them."""
    return stacked((_head(shown), _bars(shown), _stages(shown)), scale=scale)


def _head(shown: Shown) -> Block:
    lines = wrap(CAVEAT, 12, _INNER, max_lines=2)

    def draw(canvas: Canvas, top: int) -> None:
        canvas.text(PADDING, top + 15, clip(headline(shown), 16, _INNER), size=16, colour=palette.INK, weight="bold")
        for row, line in enumerate(lines):
            canvas.text(PADDING, top + _TITLE + row * _LINE + 12, line, size=12, colour=palette.MUTED)

    return Block(_TITLE + len(lines) * _LINE, draw)


def _bars(shown: Shown) -> Block:
    names = top_operators(shown, min(shown.top, _BARS))
    stages = [(stage_colour(stage), amounts(stage, shown, names)) for stage in shown.stages]
    sums = [sum(found[index] for _, found in stages) for index in range(len(names))]
    longest = max(sums, default=0) or 1
    width = _INNER - _NAMES - _FIGURES

    def draw(canvas: Canvas, top: int) -> None:
        for row, name in enumerate(names):
            y, x = top + row * _BAR, float(PADDING + _NAMES)
            canvas.text(
                PADDING,
                y + 10,
                clip(drawable(visible(name)), 12, _NAMES - 10),
                size=12,
                colour=palette.INK,
                anchor="lm",
            )
            for colour, found in stages:
                if found[row]:
                    end = x + width * found[row] / longest
                    canvas.bar(x, y + 3, end, y + _BAR - 4, colour=colour)
                    x = end
            figure = f"{sums[row]:,.0f}" if shown.sort == "count" else numbers.duration(sums[row])
            canvas.text(x + 6, y + 10, figure, size=11, colour=palette.MUTED, anchor="lm")

    return Block(len(names) * _BAR, draw)


def _stages(shown: Shown) -> Block:
    """The stages in words, each with its colour."""
    stages = [stage for stage in shown.stages if stage.operators]

    def draw(canvas: Canvas, top: int) -> None:
        for row, stage in enumerate(stages):
            y = top + row * _LINE
            canvas.bar(PADDING, y + 4, PADDING + _SWATCH, y + 4 + _SWATCH, colour=stage_colour(stage))
            text = clip(drawable(stage_line(stage)), 12, _INNER - 20)
            canvas.text(PADDING + 18, y + 9, text, size=12, colour=palette.INK, anchor="lm")

    return Block(len(stages) * _LINE, draw)
