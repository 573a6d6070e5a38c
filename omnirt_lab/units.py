"""Conversions between the units that records carry. Rounding and formatting belong to `views`."""

from __future__ import annotations

from typing import Final

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
MS_PER_S: Final = 1_000
BYTES_PER_KIB: Final = 1024
BYTES_PER_MIB: Final = 1024 * 1024


def ms_from_ns(duration_ns: int) -> float:
    """Milliseconds, unrounded."""
    return duration_ns / NS_PER_MS


def s_from_ns(duration_ns: int) -> float:
    """Seconds, unrounded."""
    return duration_ns / NS_PER_S
