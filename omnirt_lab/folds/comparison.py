"""Runs side by side: what each stage took, repeats gathered, and the run that loaded the model set apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev
from typing import Final

from omnirt_lab.records import Record, RunReport
from omnirt_lab.units import ms_from_ns

_QUEUE: Final = "queue"
_PERCENT: Final = 100


class Side(Record, frozen=True, kw_only=True):
    """One of the things compared: a run, or repeats of it."""

    label: str
    """`A`, `B`, …"""

    reports: tuple[RunReport, ...]
    """At least one, in the order given."""

    @property
    def warm_up(self) -> tuple[RunReport, ...]:
        """The repeats that are set apart: those that loaded the model, where others did not."""
        loading = tuple(report for report in self.reports if has_loaded_model(report))
        return loading if len(loading) < len(self.reports) else ()

    @property
    def measured(self) -> tuple[RunReport, ...]:
        """The repeats that the figures are of; at least one."""
        apart = self.warm_up
        return tuple(report for report in self.reports if report not in apart)

    @property
    def includes_loading(self) -> bool:
        """Whether the figures are of runs that loaded the model, as there are no others."""
        return any(map(has_loaded_model, self.measured))


class Spread(Record, frozen=True, kw_only=True):
    """Repeated measurements of one duration, in milliseconds."""

    n: int

    mean_ms: float

    min_ms: float

    max_ms: float

    std_ms: float | None = None
    """Sample standard deviation; None for a single measurement."""


class Times(Record, frozen=True, kw_only=True):
    """One duration on every side; each tuple has an entry a side, None where it was not measured."""

    name: str

    spreads: tuple[Spread | None, ...]

    warm_up_ms: tuple[float | None, ...]
    """Mean of the runs set apart."""

    change_percent: tuple[float | None, ...]
    """Of the mean against the first side's; None for the first itself."""


def has_loaded_model(report: RunReport) -> bool:
    """Whether the model was loaded for this run, as for the first of a process, and not resident before."""
    return any(use.cache_type == "resident_pipeline" and use.hits < use.calls for use in report.cache_details)


def total_times(sides: Sequence[Side]) -> Times:
    """The whole run, from taken by a worker to its last event."""
    return _times("total", sides, lambda report: report.duration_ms)


def step_times(sides: Sequence[Side]) -> Times:
    """The median denoising step: comparable also where the numbers of steps differ."""
    return _times("median step", sides, _median_step_ms)


def stage_times(sides: Sequence[Side]) -> tuple[Times, ...]:
    """Each stage that any side has, in the order in which they first ran; the wait in a queue is none."""
    names = dict.fromkeys(
        stage.name for side in sides for report in side.reports for stage in report.stages if stage.name != _QUEUE
    )
    return tuple(_stage(name, sides) for name in names)


def _stage(name: str, sides: Sequence[Side]) -> Times:
    return _times(name, sides, lambda report: report.timings.get(f"{name}_ms"))


def _times(name: str, sides: Sequence[Side], ms_of: Callable[[RunReport], float | None]) -> Times:
    spreads = tuple(_spread(map(ms_of, side.measured)) for side in sides)
    apart = [_spread(map(ms_of, side.warm_up)) for side in sides]
    return Times(
        name=name,
        spreads=spreads,
        warm_up_ms=tuple(None if spread is None else spread.mean_ms for spread in apart),
        change_percent=(None, *(_change_percent(spreads[0], spread) for spread in spreads[1:])),
    )


def _spread(values_ms: Iterable[float | None]) -> Spread | None:
    known_ms = [value for value in values_ms if value is not None]
    if not known_ms:
        return None
    return Spread(
        n=len(known_ms),
        mean_ms=fmean(known_ms),
        min_ms=min(known_ms),
        max_ms=max(known_ms),
        std_ms=stdev(known_ms) if len(known_ms) > 1 else None,
    )


def _change_percent(first: Spread | None, other: Spread | None) -> float | None:
    if first is None or other is None or first.mean_ms == 0:
        return None
    return (other.mean_ms / first.mean_ms - 1) * _PERCENT


def _median_step_ms(report: RunReport) -> float | None:
    if not report.steps:
        return None
    return ms_from_ns(round(median(step.end_t_ns - step.start_t_ns for step in report.steps)))
