"""Figures as people read them: three digits, a unit, the same everywhere."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "—"
"""Stands where nothing was measured."""

_BYTE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_ROUNDS_UP_TO_1000: Final = 999.5
_SHOWN_IN_US_BELOW_MS: Final = 0.01


def duration(ms: float | None) -> str:
    """A duration: `4.12 µs`, `0.41 ms`, `57.3 ms`, `1.24 s`, `2 min 05 s`, `1 h 05 min`."""
    if ms is None:
        return UNKNOWN
    if ms < 0:
        return f"-{duration(-ms)}"
    if ms == 0:
        return "0 ms"
    if ms < _SHOWN_IN_US_BELOW_MS:
        return f"{_three_digits(ms * 1000)} µs"
    if ms < _ROUNDS_UP_TO_1000:
        return f"{_three_digits(ms)} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{_three_digits(seconds)} s"
    minutes, seconds_left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds_left:02d} s"
    hours, minutes_left = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes_left:02d} min"


def saving(ms: float, *, what: str = "it") -> str:
    """What a cache has come to: `saved 57.3 ms`, or `cost 4.20 ms more than it saved` where looking took longer."""
    return f"saved {duration(ms)}" if ms >= 0 else f"cost {duration(-ms)} more than {what} saved"


def moment(ms: float) -> str:
    """A place on a time axis, alike in all rows of a column: `0.30 ms`, `12,345.68 ms`."""
    return f"{ms:,.2f} ms"


def size(size_bytes: float | None) -> str:
    """An amount of memory or a file's size: `312 B`, `4.81 KiB`, `561 MiB`, `1.24 GiB`."""
    if size_bytes is None:
        return UNKNOWN
    if size_bytes < 0:
        return f"-{size(-size_bytes)}"
    if size_bytes < _ROUNDS_UP_TO_1000:
        return f"{size_bytes:.0f} B"
    amount, unit = float(size_bytes), 0
    while amount >= _ROUNDS_UP_TO_1000 and unit < len(_BYTE_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{_three_digits(amount)} {_BYTE_UNITS[unit]}"


def percent(share: float | None) -> str:
    """A share of 1 as percent: `93 %`, `4.2 %`, `0.15 %`, `<0.01 %`."""
    if share is None:
        return UNKNOWN
    value = share * 100
    if 0 < value < 0.01:
        return "<0.01 %"
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.995 else f"{value:.2f} %"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 step`, `2,000 steps`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def sides(width_px: int, height_px: int) -> str:
    """A picture's size: `64 x 64 px`, with a multiplication sign."""
    return f"{width_px} × {height_px} px"  # noqa: RUF001  the multiplication sign is meant


def plain(value: float) -> str:
    """A setting as the user would type it: `5`, `7.5`."""
    return f"{value:g}"


def _three_digits(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"
