"""The waterfall and the memory curve as SVG, for pages that run no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from omnirt_lab.folds.timeline import Lane, MemoryCurve, Span, Timeline
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import facts, numbers, palette
from omnirt_lab.views.quoting import shortened, visible

WIDTH: Final = 900
LEFT: Final = 170
RIGHT: Final = 90
ROW: Final = 24
BAR: Final = 14
CURVE: Final = 70
GAP: Final = 18
_MAX_NAME: Final = 24
_MIN_BAR: Final = 1.0


def waterfall_svg(made: Timeline) -> str:
    """Lanes over memory curves, all on one time axis; each bar says its figures when pointed at."""
    height = len(made.lanes) * ROW + len(made.curves) * (CURVE + GAP) + GAP
    parts = [part for row, lane in enumerate(made.lanes) for part in _lane(lane, made, row * ROW)]
    for index, curve in enumerate(made.curves):
        parts += _curve(curve, made, len(made.lanes) * ROW + index * (CURVE + GAP) + GAP / 2)
    parts.append(_text(LEFT, height - 4, "0", "muted"))
    parts.append(_text(WIDTH - RIGHT, height - 4, numbers.duration(ms_from_ns(made.total_ns)), "muted", anchor="end"))
    label = "Stages of the run on a time axis, with the memory under them"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _x(made: Timeline, t_ns: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * t_ns / max(made.total_ns, 1)


def _lane(lane: Lane, made: Timeline, top: float) -> Iterator[str]:
    middle = top + ROW / 2
    name = shortened(visible(lane.name), _MAX_NAME)
    yield _text(0, middle + 4, name, "muted" if lane.is_steps else "")
    for span in lane.spans:
        x0, x1 = _x(made, span.start_ns), _x(made, span.end_ns)
        yield (
            f'<rect x="{x0:.2f}" y="{middle - BAR / 2}" width="{max(x1 - x0, _MIN_BAR):.2f}" height="{BAR}" '
            f'fill="{_colour(lane, span)}"{_pattern(span)}><title>{escape(_title(lane, span))}</title></rect>'
        )
    yield _text(WIDTH, middle + 4, numbers.duration(ms_from_ns(lane.busy_ns)), "muted", anchor="end")


def _colour(lane: Lane, span: Span) -> str:
    if span.error is not None:
        return palette.ALERT
    if lane.is_steps:
        return palette.DENOISE if (span.step or 0) % 2 else palette.DENOISE_LIGHT
    return palette.stage_colour(lane.name)


def _pattern(span: Span) -> str:
    return ' fill-opacity="0.4" stroke="currentColor" stroke-dasharray="3 2"' if span.cache_type is not None else ""


def _title(lane: Lane, span: Span) -> str:
    name = f"step {span.step + 1}" if span.step is not None else visible(lane.name)
    return "; ".join((f"{name}: {numbers.duration(ms_from_ns(span.duration_ns))}", *facts.span_notes(span)))


def _curve(curve: MemoryCurve, made: Timeline, top: float) -> Iterator[str]:
    kind = facts.KIND_WORDS[made.memory_kind] if made.memory_kind is not None else "memory"
    yield _text(0, top + 12, shortened(f"{kind}, {curve.device}", _MAX_NAME))
    yield _text(WIDTH, top + 12, numbers.size(curve.peak_bytes), "muted", anchor="end")
    low, high = min(curve.bytes, default=0), max(curve.peak_bytes, *curve.bytes)
    points = " ".join(
        f"{_x(made, t_ns):.1f},{top + CURVE - CURVE * (value - low) / max(high - low, 1):.1f}"
        for t_ns, value in zip(curve.t_ns, curve.bytes, strict=True)
    )
    yield f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + CURVE}" y2="{top + CURVE}"/>'
    yield f'<polyline points="{points}" fill="none" stroke="{palette.MEMORY}" stroke-width="2"/>'
    yield _text(0, top + CURVE, f"from {numbers.size(low)}", "muted")


def _text(x: float, y: float, text: str, css_class: str = "", *, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{css_class}" text-anchor="{anchor}">{escape(text)}</text>'
