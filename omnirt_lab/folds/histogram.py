"""Durations in buckets, with the job that fell into each last."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from omnirt_lab.records import Record
from omnirt_lab.units import s_from_ns

STAGE_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds, seconds, each included: a tiny encoder takes 1 ms, a video some minutes."""

STEP_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Exemplar(Record, frozen=True, array_like=True):
    """One job that stands for a figure."""

    value: float
    """Seconds for a duration; 1 for a job that was counted."""

    trace_id: str

    job_id: str

    timestamp_s: float
    """Wall clock, seconds since 1970."""


class Histogram(Record, frozen=True, array_like=True):
    """How many durations fell under each bound."""

    counts: tuple[int, ...]
    """A bucket each, not summed up; the last one counts what lies above the highest bound."""

    sum_ns: int

    exemplars: tuple[Exemplar | None, ...]
    """The latest of each bucket."""


def observe(histogram: Histogram | None, bounds_s: tuple[float, ...], exemplar: Exemplar, *, ns: int) -> Histogram:
    """The histogram with one more duration; None stands for an empty one."""
    if histogram is None:
        buckets = len(bounds_s) + 1
        histogram = Histogram(counts=(0,) * buckets, sum_ns=0, exemplars=(None,) * buckets)
    at = bisect_left(bounds_s, s_from_ns(ns))
    counts, exemplars = histogram.counts, histogram.exemplars
    return Histogram(
        counts=(*counts[:at], counts[at] + 1, *counts[at + 1 :]),
        sum_ns=histogram.sum_ns + ns,
        exemplars=(*exemplars[:at], exemplar, *exemplars[at + 1 :]),
    )
