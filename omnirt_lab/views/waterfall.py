"""The part of the card that has a time axis: a lane for each stage, one for steps, one for blocks; memory below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

from omnirt_lab.folds.timeline import BlockSpan, Lane, MemoryCurve, Span, Timeline
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import blocks, numbers, palette
from omnirt_lab.views.canvas import Canvas, clip, text_width
from omnirt_lab.views.facts import KIND_WORDS
from omnirt_lab.views.quoting import shortened, visible

ROW: Final = 24
BAR: Final = 14
MEMORY_GAP: Final = 16
MEMORY_HEIGHT: Final = 58
AXIS_HEIGHT: Final = 24

_LABEL_SIZE: Final = 12
_SMALL: Final = 11
_MAX_NAME: Final = 24
_FIGURES_WIDTH: Final = 122
_PERCENT_WIDTH: Final = 48
_SEEN_STEP: Final = 2.0
"""Layout pixels under which a step's own shade cannot be seen any more."""


def height(made: Timeline) -> int:
    """Layout pixels that the lanes, the curves and the axis take."""
    if not made.lanes:
        return 0
    return _lanes_height(made) + len(made.curves) * (MEMORY_GAP + MEMORY_HEIGHT) + AXIS_HEIGHT


def _lanes_height(made: Timeline) -> int:
    return (len(made.lanes) + bool(made.blocks)) * ROW


def draw(canvas: Canvas, made: Timeline, *, left: int, right: int, top: int) -> None:
    """Draw the lanes, the memory curves and their common axis between `left` and `right`."""
    if not made.lanes:
        return
    labels = [shortened(visible(lane.name), _MAX_NAME) for lane in made.lanes] + ["memory"]
    x0 = left + round(max(text_width(label, _LABEL_SIZE) for label in labels)) + 14
    x1 = right - _FIGURES_WIDTH
    total_ns = max(made.total_ns, 1)

    def x_of(t_ns: int) -> float:
        return x0 + (x1 - x0) * t_ns / total_ns

    bottom = top + height(made) - AXIS_HEIGHT
    _axis(canvas, total_ns, x_of, top, bottom)
    for row, lane in enumerate(made.lanes):
        y = top + row * ROW + ROW / 2
        colour = palette.MUTED if lane.is_steps else palette.INK
        canvas.text(left, y, labels[row], size=_LABEL_SIZE, colour=colour, anchor="lm")
        _lane(canvas, lane, x_of, (x0, x1), y)
        _figures(canvas, lane, total_ns, right, y)
    if made.blocks:
        y = top + len(made.lanes) * ROW + ROW / 2
        canvas.text(left, y, blocks.LABEL, size=_LABEL_SIZE, colour=palette.MUTED, anchor="lm")
        _blocks(canvas, made.blocks, x_of, y)
        busy_ns = blocks.busy_ns(made)
        figures = ascii_duration(ms_from_ns(busy_ns)), numbers.percent(busy_ns / total_ns)
        _beyond(canvas, *figures, right, y, colour=palette.MUTED)
    for index, curve in enumerate(made.curves):
        y = top + _lanes_height(made) + index * (MEMORY_GAP + MEMORY_HEIGHT) + MEMORY_GAP
        _memory(canvas, made, curve, x_of, left, right, y)


def _axis(canvas: Canvas, total_ns: int, x_of: Callable[[int], float], top: int, bottom: int) -> None:
    for t_ns, label in ticks(total_ns):
        x = x_of(t_ns)
        canvas.line([(x, top), (x, bottom + 4)], colour=palette.RULE)
        canvas.text(x, bottom + 15, label, size=_SMALL, colour=palette.MUTED, anchor="mm")


def ticks(total_ns: int) -> Iterator[tuple[int, str]]:
    """Round times from zero on, four to eight of them, with their labels in milliseconds or seconds."""
    total_ms = ms_from_ns(total_ns)
    step_ms = _round_step(total_ms / 5)
    in_seconds = total_ms >= 1000
    for index in range(int(total_ms / step_ms) + 1):
        t_ms = index * step_ms
        label = f"{t_ms / 1000:g} s" if in_seconds else f"{t_ms:g} ms"
        yield round(t_ms * 1_000_000), "0" if index == 0 else label


def _round_step(about: float) -> float:
    """The number 1, 2 or 5 times a power of ten that is next to `about`."""
    power = 10.0 ** int(f"{about:e}".partition("e")[2])
    return min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(step - about))


def _lane(canvas: Canvas, lane: Lane, x_of: Callable[[int], float], edges: tuple[int, int], y: float) -> None:
    if lane.is_steps:
        _steps(canvas, lane, x_of, y)
        return
    colour = palette.stage_colour(lane.name)
    for span in lane.spans:
        box = (x_of(span.start_ns), y - BAR / 2, x_of(span.end_ns), y + BAR / 2)
        if span.cache_type is not None:
            canvas.hatch(*box, colour=colour, background=palette.CARD)
        elif span.error is not None:
            canvas.hatch(*box, colour=palette.ALERT, background=palette.CARD)
        elif span.is_open:
            canvas.hatch(*box, colour=palette.CARD, background=colour)
        else:
            canvas.bar(*box, colour=colour)
    note, note_colour = _note(lane.spans)
    if note:
        _beside(canvas, note, note_colour, lane, x_of, edges, y)


def _steps(canvas: Canvas, lane: Lane, x_of: Callable[[int], float], y: float) -> None:
    first, last = x_of(lane.spans[0].start_ns), x_of(lane.spans[-1].end_ns)
    if (last - first) / len(lane.spans) < _SEEN_STEP:
        canvas.bar(first, y - BAR / 2, last, y + BAR / 2, colour=palette.DENOISE_LIGHT)
        return
    for span in lane.spans:
        shade = palette.DENOISE_LIGHT if (span.step or 0) % 2 else palette.DENOISE
        canvas.bar(x_of(span.start_ns), y - BAR / 2, x_of(span.end_ns), y + BAR / 2, colour=shade)


def _blocks(canvas: Canvas, spans: tuple[BlockSpan, ...], x_of: Callable[[int], float], y: float) -> None:
    for index, span in enumerate(spans):
        shade = palette.BLOCK_LIGHT if index % 2 else palette.BLOCK
        canvas.bar(x_of(span.start_ns), y - BAR / 2, x_of(span.end_ns), y + BAR / 2, colour=shade)


def _note(spans: tuple[Span, ...]) -> tuple[str, str]:
    """What is special about a lane, and the colour to say it in."""
    error = next((span.error for span in spans if span.error is not None), None)
    if error is not None:
        return visible(error), palette.ALERT
    if any(span.is_open for span in spans):
        return "not ended", palette.MUTED
    cached = [span for span in spans if span.cache_type is not None]
    saved_ns = sum(span.saved_ns or 0 for span in cached)
    if saved_ns:
        colour = palette.GOOD if saved_ns > 0 else palette.MUTED
        return f"from cache, {_ascii(numbers.saving(ms_from_ns(saved_ns)))}", colour
    return ("from cache" if cached else ""), palette.GOOD


def _beside(
    canvas: Canvas,
    note: str,
    colour: str,
    lane: Lane,
    x_of: Callable[[int], float],
    edges: tuple[int, int],
    y: float,
) -> None:
    """The note after the lane's last bar, before its first, or, where both lack room, on a patch inside the bar."""
    first, last = x_of(lane.spans[0].start_ns), max(x_of(lane.spans[-1].end_ns), x_of(lane.spans[-1].start_ns) + 4)
    width, gap = text_width(note, _SMALL), 7
    if last + gap + width <= edges[1]:
        canvas.text(last + gap, y, note, size=_SMALL, colour=colour, anchor="lm")
    elif first - gap - width >= edges[0]:
        canvas.text(first - gap, y, note, size=_SMALL, colour=colour, anchor="rm")
    else:
        note = clip(note, _SMALL, last - first - 2 * gap)
        width = text_width(note, _SMALL)
        canvas.bar(first + gap, y - BAR / 2 + 1, first + gap * 2 + width, y + BAR / 2 - 1, colour=palette.CARD)
        canvas.text(first + gap * 1.5, y, note, size=_SMALL, colour=colour, anchor="lm")


def _figures(canvas: Canvas, lane: Lane, total_ns: int, right: int, y: float) -> None:
    if lane.is_steps:
        middle_ms = ms_from_ns(round(median(span.duration_ns for span in lane.spans)))
        text, share = ascii_duration(middle_ms), "each"
    else:
        text, share = ascii_duration(ms_from_ns(lane.busy_ns)), numbers.percent(lane.busy_ns / total_ns)
    _beyond(canvas, text, share, right, y, colour=palette.MUTED if lane.is_steps else palette.INK)


def _beyond(canvas: Canvas, text: str, share: str, right: int, y: float, *, colour: str) -> None:
    canvas.text(right - _PERCENT_WIDTH, y, text, size=_LABEL_SIZE, colour=colour, anchor="rm")
    canvas.text(right, y, share, size=_SMALL, colour=palette.MUTED, anchor="rm")


def _memory(
    canvas: Canvas,
    made: Timeline,
    curve: MemoryCurve,
    x_of: Callable[[int], float],
    left: int,
    right: int,
    top: int,
) -> None:
    canvas.text(left, top + 8, "memory", size=_LABEL_SIZE, colour=palette.INK, anchor="lm")
    canvas.text(left, top + 24, visible(curve.device), size=_SMALL, colour=palette.MUTED, anchor="lm")
    low_bytes, high_bytes = min(curve.bytes, default=curve.peak_bytes), curve.peak_bytes
    canvas.text(right, top + 8, numbers.size(high_bytes), size=_LABEL_SIZE, colour=palette.INK, anchor="rm")
    if made.memory_kind is not None:
        words = KIND_WORDS[made.memory_kind]
        canvas.text(right, top + 24, f"peak {words}", size=_SMALL, colour=palette.MUTED, anchor="rm")
    bottom = top + MEMORY_HEIGHT
    span_bytes = max(high_bytes - low_bytes, 1)

    def y_of(reading_bytes: int) -> float:
        return bottom - 6 - (MEMORY_HEIGHT - 12) * (reading_bytes - low_bytes) / span_bytes

    points = [(x_of(t_ns), y_of(reading)) for t_ns, reading in zip(curve.t_ns, curve.bytes, strict=True)]
    if len(points) > 1:
        canvas.area([(points[0][0], bottom), *points, (points[-1][0], bottom)], colour=palette.MEMORY_FILL)
        canvas.line(points, colour=palette.MEMORY, width=1.5)
        canvas.text(
            right, bottom - 6, f"from {numbers.size(low_bytes)}", size=_SMALL, colour=palette.MUTED, anchor="rm"
        )


def ascii_duration(ms: float | None) -> str:
    """A duration in the characters that the built-in font has."""
    return _ascii(numbers.duration(ms))


def _ascii(text: str) -> str:
    return text.replace("µ", "u").replace(numbers.UNKNOWN, "-")
