"""Runs side by side as one picture: what they drew and where it differs, paired bars of the times, memory overlaid."""

from __future__ import annotations

from typing import Final, NamedTuple

from omnirt_lab.folds import timeline
from omnirt_lab.folds.comparison import Times
from omnirt_lab.folds.timeline import MemoryCurve
from omnirt_lab.views import comparison, facts, numbers, palette
from omnirt_lab.views.canvas import Canvas, Weight, clip, text_width, wrap
from omnirt_lab.views.comparison import Shown
from omnirt_lab.views.difference import difference_png
from omnirt_lab.views.png import PADDING, WIDTH, Block, drawable, stacked
from omnirt_lab.views.quoting import shortened, visible
from omnirt_lab.views.waterfall import ticks

_LEFT: Final = PADDING
_RIGHT: Final = WIDTH - PADDING
_LINE: Final = 18
_APART: Final = 8
_BAR: Final = 11
_BETWEEN: Final = 11
_MAX_SIDE: Final = 168
_CAPTION: Final = 22
_MEMORY: Final = 84
_AXIS: Final = 22
_TEXT: Final = 12
_SMALL: Final = 11
_MAX_DIFFERENCES: Final = 14
_FIGURES: Final = 190
"""Layout pixels that a bar's figures may need behind it."""


def comparison_png(shown: Shown, *, scale: int = 2) -> bytes:
    """PNG bytes of the comparison's card, 760 layout pixels wide; `scale` picture pixels for one of them."""
    return stacked((_head(shown), _pictures(shown), _times(shown), _memory(shown), _differences(shown)), scale=scale)


def _head(shown: Shown) -> Block:
    rows: list[tuple[int | None, str, str]] = []
    for index, side in enumerate(shown.sides):
        rows.append((index, drawable(comparison.title(side)), palette.INK))
        details = "  ·  ".join([*facts.settings(side.reports[0]), *comparison.notes(side)])
        lines = [comparison.prompt(side), drawable(details)]
        rows += [(None, line, palette.MUTED) for text in lines for line in wrap(text, _TEXT, 660, max_lines=2)]

    def draw(canvas: Canvas, top: int) -> None:
        y = top + 9 - _LINE - _APART
        for index, text, colour in rows:
            y += _LINE + (0 if index is None else _APART)
            if index is not None:
                canvas.bar(_LEFT, y - 6, _LEFT + 12, y + 6, colour=palette.SIDES[index])
                label = shown.sides[index].label
                canvas.text(_LEFT + 20, y, label, size=_TEXT, colour=palette.INK, weight="bold", anchor="lm")
            weight: Weight = "regular" if index is None else "bold"
            canvas.text(
                _LEFT + 40,
                y,
                clip(text, _TEXT, _RIGHT - _LEFT - 40),
                size=_TEXT,
                colour=colour,
                weight=weight,
                anchor="lm",
            )

    return Block(len(rows) * _LINE + _APART * (len(shown.sides) - 1), draw)


def _pictures(shown: Shown) -> Block:
    """A column a side: its first picture, and under it, or beside it where there are two, what differs."""
    firsts = [found[0] if found else None for found in shown.pictures]
    tiles: list[list[tuple[str, bytes | None]]] = [
        [(side.label, first) for side, first in zip(shown.sides, firsts, strict=True)]
    ]
    differing: list[tuple[str, bytes | None]] = []
    for side, first in zip(shown.sides[1:], firsts[1:], strict=True):
        made = difference_png(firsts[0], first) if firsts[0] and first else None
        caption = f"{shown.sides[0].label} and {side.label}: {made.label}" if made else ""
        differing.append((caption, made.png if made else None))
    if len(shown.sides) == 2:
        tiles[0] += differing
    else:
        tiles.append([("", None), *differing])
    if not any(first for first in firsts):
        return Block(0, lambda _canvas, _top: None)
    columns = len(tiles[0])
    side_px = min(_MAX_SIDE, (_RIGHT - _LEFT - 12 * (columns - 1)) // columns)

    def draw(canvas: Canvas, top: int) -> None:
        for row, line in enumerate(tiles):
            for column, (caption, picture) in enumerate(line):
                x, y = _LEFT + column * (side_px + 12), top + row * (side_px + _CAPTION)
                if picture is not None:
                    canvas.picture(picture, x, y, side_px, frame=palette.BORDER)
                    text = clip(caption, _TEXT, side_px)
                    canvas.text(x + side_px / 2, y + side_px + 12, text, size=_TEXT, colour=palette.INK, anchor="mm")

    has_second = len(tiles) > 1 and any(picture for _, picture in tiles[1])
    return Block((side_px + _CAPTION) * (2 if has_second else 1), draw)


def _times(shown: Shown) -> Block:
    rows = comparison.all_times(shown)
    sides = len(shown.sides)
    row_height = sides * _BAR + _BETWEEN
    names = [shortened(visible(times.name), 24) for times in rows]
    x0 = _LEFT + round(max(text_width(name, _TEXT) for name in names)) + 14
    longest_ms = max((spread.mean_ms for row in rows for spread in row.spreads if spread), default=1) or 1

    def draw(canvas: Canvas, top: int) -> None:
        canvas.line([(_LEFT, top - 10), (_RIGHT, top - 10)], colour=palette.RULE)
        for row, times in enumerate(rows):
            y = top + row * row_height
            middle = y + sides * _BAR / 2
            canvas.text(_LEFT, middle, names[row], size=_TEXT, colour=palette.INK, anchor="lm")
            for index in range(sides):
                _bar(canvas, times, index, x0, y + index * _BAR, (_RIGHT - _FIGURES - x0) / longest_ms)

    return Block(len(rows) * row_height, draw)


def _bar(canvas: Canvas, times: Times, index: int, x0: float, y: float, px_per_ms: float) -> None:
    spread = times.spreads[index]
    if spread is None:
        canvas.text(x0 + 5, y + _BAR / 2, "-", size=_SMALL, colour=palette.MUTED, anchor="lm")
        return
    x1 = x0 + spread.mean_ms * px_per_ms
    canvas.bar(x0, y + 1, x1, y + _BAR - 1, colour=palette.SIDES[index])
    text = _in_font(comparison.figure(times, index))
    at = max(x1, x0 + 1) + 6
    canvas.text(at, y + _BAR / 2, text, size=_SMALL, colour=palette.INK, anchor="lm")
    change = _in_font(comparison.change(times, index))
    percent = times.change_percent[index]
    if change and percent is not None:
        tells = change != "0 %" and comparison.is_beyond_spread(times, index)
        colour = (palette.ALERT if percent > 0 else palette.GOOD) if tells else palette.MUTED
        canvas.text(
            at + text_width(text, _SMALL) + 12, y + _BAR / 2, change, size=_SMALL, colour=colour, anchor="lm",
            weight="bold",
        )  # fmt: skip


class _Curves(NamedTuple):
    """All sides' memory curves in one frame."""

    curves: tuple[tuple[int, MemoryCurve], ...]
    low_bytes: int
    high_bytes: int
    end_ns: int
    x0: int = _LEFT + 74
    x1: int = _RIGHT - 84

    def x_of(self, t_ns: int) -> float:
        """Layout pixels from the left."""
        return self.x0 + (self.x1 - self.x0) * t_ns / max(self.end_ns, 1)

    def points(self, curve: MemoryCurve, bottom: int) -> list[tuple[float, float]]:
        """The curve over this lower edge."""
        span_bytes = max(self.high_bytes - self.low_bytes, 1)
        return [
            (self.x_of(t_ns), bottom - 4 - (_MEMORY - 8) * (reading - self.low_bytes) / span_bytes)
            for t_ns, reading in zip(curve.t_ns, curve.bytes, strict=True)
        ]


def _find_curves(shown: Shown) -> _Curves | None:
    curves = tuple(
        (index, curve)
        for index, side in enumerate(shown.sides)
        for curve in timeline.of_report(side.measured[0]).curves
        if len(curve.t_ns) > 1
    )
    if not curves:
        return None
    return _Curves(
        curves,
        low_bytes=min(min(curve.bytes) for _, curve in curves),
        high_bytes=max(max(curve.bytes) for _, curve in curves),
        end_ns=max(curve.t_ns[-1] for _, curve in curves),
    )


def _memory(shown: Shown) -> Block:
    frame = _find_curves(shown)
    if frame is None:
        return Block(0, lambda _canvas, _top: None)
    kind = shown.sides[0].measured[0].memory.kind

    def draw(canvas: Canvas, top: int) -> None:
        canvas.line([(_LEFT, top - 10), (_RIGHT, top - 10)], colour=palette.RULE)
        bottom = top + _MEMORY
        for t_ns, label in ticks(frame.end_ns):
            x = frame.x_of(t_ns)
            canvas.line([(x, top), (x, bottom + 4)], colour=palette.RULE)
            canvas.text(x, bottom + 13, label, size=_SMALL, colour=palette.MUTED, anchor="mm")
        for index, curve in frame.curves:
            canvas.line(frame.points(curve, bottom), colour=palette.SIDES[index], width=1.6)
        canvas.text(_LEFT, top + 8, "memory", size=_TEXT, colour=palette.INK, anchor="lm")
        words = facts.KIND_WORDS[kind].removesuffix(" memory") if kind else ""
        canvas.text(_LEFT, top + 24, words, size=_SMALL, colour=palette.MUTED, anchor="lm")
        canvas.text(_RIGHT, top + 5, numbers.size(frame.high_bytes), size=_SMALL, colour=palette.INK, anchor="rm")
        canvas.text(_RIGHT, bottom - 5, numbers.size(frame.low_bytes), size=_SMALL, colour=palette.MUTED, anchor="rm")

    return Block(_MEMORY + _AXIS, draw)


def _differences(shown: Shown) -> Block:
    found = list(shown.differences.items())[:_MAX_DIFFERENCES]
    left_out = len(shown.differences) - len(found)
    name_width = 250
    column = (_RIGHT - _LEFT - name_width) / len(shown.sides)
    last = f"and {left_out} more: .differences" if left_out else ""
    rows = [(name, [comparison.value(value, 60) for value in values]) for name, values in found]

    def draw(canvas: Canvas, top: int) -> None:
        canvas.line([(_LEFT, top - 10), (_RIGHT, top - 10)], colour=palette.RULE)
        head = "what differs" if rows else "nothing recorded differs but the times"
        canvas.text(_LEFT, top + 9, head, size=_TEXT, colour=palette.MUTED, anchor="lm")
        for index, side in enumerate(shown.sides if rows else ()):
            x = _LEFT + name_width + index * column
            canvas.text(x, top + 9, side.label, size=_TEXT, colour=palette.MUTED, anchor="lm", weight="bold")
        for row, (name, values) in enumerate(rows):
            y = top + (row + 1) * _LINE + 9
            text = clip(visible(name), _TEXT, name_width - 10)
            canvas.text(_LEFT, y, text, size=_TEXT, colour=palette.INK, anchor="lm")
            for index, value in enumerate(values):
                text = clip(drawable(value), _TEXT, column - 8)
                x = _LEFT + name_width + index * column
                canvas.text(x, y, text, size=_TEXT, colour=palette.INK, anchor="lm")
        canvas.text(_LEFT, top + (len(rows) + 1) * _LINE + 9, last, size=_TEXT, colour=palette.MUTED, anchor="lm")

    return Block((len(rows) + 1 + bool(last)) * _LINE, draw)


def _in_font(text: str) -> str:
    """The view's own signs in the characters that the built-in font has."""
    return drawable(text).replace("±0", "0").replace(" ± ", " +/- ")
