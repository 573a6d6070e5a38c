"""The clocks: one that runs alike in every process since the machine booted, and the wall's."""

from __future__ import annotations

import secrets
import time
from functools import cache
from pathlib import Path

import psutil

from omnirt_lab.units import NS_PER_MS


@cache
def boot_id() -> str:
    """Names this boot of this machine: monotonic times of two processes compare only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return f"boot-{psutil.boot_time():.0f}"


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // NS_PER_MS


def monotonic_zero_ns(*, boot: str, monotonic_ns: int, wall_clock_ms: int) -> int:
    """Find this process's monotonic time of a moment that another process, or an earlier boot, has noted.

    After a reboot only the wall clock knows how long ago it was.
    """
    if boot == boot_id():
        return monotonic_ns
    return time.monotonic_ns() - max(0, wall_ms() - wall_clock_ms) * NS_PER_MS


def new_job_id() -> str:
    """32 hex digits that sort by the time of their making: 48 bits of milliseconds, 80 of chance."""
    return f"{wall_ms():012x}{secrets.token_hex(10)}"


def new_run_id() -> str:
    """16 hex digits of chance, so that a few of them name a run."""
    return secrets.token_hex(8)


def new_trace_id() -> str:
    """32 hex digits, as W3C Trace Context has them."""
    return secrets.token_hex(16)
