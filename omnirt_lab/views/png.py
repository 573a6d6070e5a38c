"""A report as one picture: what was made, the key facts, the waterfall with memory on the same axis, the small print.

A light card with a border of its own, so that it reads in a light and in a dark notebook; drawn with Pillow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from omnirt_lab.folds import timeline
from omnirt_lab.records import RunReport
from omnirt_lab.views import blocks, facts, numbers, palette, waterfall
from omnirt_lab.views.canvas import Canvas, clip, text_width, wrap
from omnirt_lab.views.quoting import visible

WIDTH: Final = 760
PADDING: Final = 24
GAP: Final = 20
PICTURES_SIDE: Final = 192
PROMPT_LIMIT: Final = 400
_MAX_PICTURES: Final = 9
_RADIUS: Final = 10
_LINE: Final = 18
_TITLE: Final = 38
_PROMPT_LINE: Final = 23
_FIGURES: Final = 62


class Block(NamedTuple):
    """A part of the card: how tall it is, and how it is drawn from its upper edge on."""

    height: int
    draw: Callable[[Canvas, int], None]


def report_png(report: RunReport, pictures: Sequence[bytes], *, scale: int = 2) -> bytes:
    """PNG bytes of the report's card.

    Parameters
    ----------
    pictures
        Encoded pictures that the run made, in order; more than nine are counted, not shown.
    scale
        Picture pixels for one layout pixel; 2 is sharp on a high-density screen. The card is 760 layout pixels wide.
    """
    return stacked((_head(report, pictures), _times(report), _small_print(report)), scale=scale)


def stacked(parts: Sequence[Block], *, scale: int) -> bytes:
    """PNG bytes of a card with these parts, one under the other; parts without height are left out."""
    shown = [part for part in parts if part.height]
    height = 2 * PADDING + sum(part.height for part in shown) + GAP * (len(shown) - 1)
    canvas = Canvas(WIDTH, height, scale=scale, background=palette.CARD)
    top = PADDING
    for part in shown:
        part.draw(canvas, top)
        top += part.height + GAP
    return canvas.to_png(radius=_RADIUS, border=palette.BORDER)


def _head(report: RunReport, pictures: Sequence[bytes]) -> Block:
    left = PADDING + (PICTURES_SIDE + GAP if pictures else 0)
    width = WIDTH - PADDING - left
    prompt = visible(report.request.inputs.prompt, limit=PROMPT_LIMIT)
    quoted = f"“{prompt}”" if prompt else ""
    prompt_lines = wrap(quoted, 16, width, max_lines=3)
    settings = wrap(drawable("  ·  ".join(facts.settings(report))), 12, width, max_lines=2)
    text_height = _TITLE + len(prompt_lines) * _PROMPT_LINE + len(settings) * _LINE + _FIGURES
    height = max(text_height, PICTURES_SIDE if pictures else 0)

    def draw(canvas: Canvas, top: int) -> None:
        _pictures(canvas, pictures, PADDING, top)
        _title(canvas, report, left, top)
        y = top + _TITLE + 12
        for line in prompt_lines:
            canvas.text(left, y, line, size=16, colour=palette.INK, part_of=quoted)
            y += _PROMPT_LINE
        for line in settings:
            canvas.text(left, y, line, size=12, colour=palette.MUTED)
            y += _LINE
        _key_figures(canvas, report, left, top + height)

    return Block(height, draw)


def _title(canvas: Canvas, report: RunReport, left: int, top: int) -> None:
    right = WIDTH - PADDING
    canvas.pill(right, top, report.state, size=12, colour=palette.state_colour(report.state))
    name = clip(facts.model(report, width=36), 13, right - left - 190)
    canvas.text(left, top + 15, name, size=13, colour=palette.INK, weight="bold")
    after = left + text_width(name, 13) + 10
    canvas.text(after, top + 15, report.task, size=12, colour=palette.MUTED)


def _key_figures(canvas: Canvas, report: RunReport, left: int, bottom: int) -> None:
    """The figures in a row on the head's lower edge, the total larger than the others."""
    x: float = left
    for index, (label, value) in enumerate(facts.key_figures(report)):
        text, size = drawable(value), 30 if index == 0 else 20
        canvas.text(x, bottom - 3, text, size=size, colour=palette.INK, weight="bold")
        canvas.text(x, bottom - 36, label, size=11, colour=palette.MUTED)
        x += max(text_width(text, size), text_width(label, 11)) + 30


def _pictures(canvas: Canvas, pictures: Sequence[bytes], left: int, top: int) -> None:
    shown = pictures[:_MAX_PICTURES]
    if not shown:
        return
    columns = 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3
    between = 6
    side = (PICTURES_SIDE - between * (columns - 1)) / columns
    for index, png in enumerate(shown):
        x = left + (index % columns) * (side + between)
        y = top + (index // columns) * (side + between)
        canvas.picture(png, x, y, side, frame=palette.BORDER)


def _times(report: RunReport) -> Block:
    made = timeline.of_report(report)

    def draw(canvas: Canvas, top: int) -> None:
        canvas.line([(PADDING, top - GAP / 2), (WIDTH - PADDING, top - GAP / 2)], colour=palette.RULE)
        waterfall.draw(canvas, made, left=PADDING, right=WIDTH - PADDING, top=top)

    return Block(waterfall.height(made), draw)


def _small_print(report: RunReport) -> Block:
    label_width = 84
    rows: list[tuple[str, str, str]] = []
    for label, text, colour in _notes(report):
        lines = wrap(drawable(text), 12, WIDTH - 2 * PADDING - label_width, max_lines=3)
        rows += [(label, line, colour) for line in lines]

    def draw(canvas: Canvas, top: int) -> None:
        canvas.line([(PADDING, top - GAP / 2), (WIDTH - PADDING, top - GAP / 2)], colour=palette.RULE)
        above = ""
        for index, (label, line, colour) in enumerate(rows):
            y = top + index * _LINE + 11
            if label != above:
                canvas.text(PADDING, y, label, size=12, colour=palette.MUTED)
            above = label
            canvas.text(PADDING + label_width, y, line, size=12, colour=colour)

    return Block(len(rows) * _LINE - 4, draw)


def _notes(report: RunReport) -> list[tuple[str, str, str]]:
    """Label, text and colour of what stands under the waterfall."""
    notes = []
    error = facts.error_line(report)
    if error is not None:
        notes.append(("error", error, palette.state_colour(report.state)))
    if report.error is not None and report.error.hint:
        notes.append(("hint", visible(report.error.hint), palette.INK))
    notes += [("warning", line, palette.CAUTION) for line in facts.warning_lines(report)]
    notes += [(blocks.LABEL, line, palette.INK) for line in blocks.block_lines(timeline.of_report(report))]
    notes += [("cache", line, palette.INK) for line in facts.cache_lines(report)]
    if len(report.memory.peak_bytes) > 1 or facts.is_elsewhere(report):
        notes += [("memory", line, palette.INK) for line in facts.memory_lines(report)]
    notes += [("devices", line, palette.INK) for line in facts.placement_lines(report)]
    notes.append(("probe", facts.measurement_line(report), palette.MUTED))
    return notes


def drawable(text: str) -> str:
    """The view's own signs in the characters that the built-in font has."""
    return text.replace("\u00d7", "x").replace("µ", "u").replace(numbers.UNKNOWN, "-")
