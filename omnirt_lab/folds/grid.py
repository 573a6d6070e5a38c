"""A sweep as a grid: the options that vary, and what the run of each cell came to."""

from __future__ import annotations

from typing import Final

from omnirt_lab.records import JobState, Json, Record, RunReport

EMBEDDING_CACHE: Final = "text_embedding"


class Axis(Record, frozen=True, kw_only=True):
    """One option that varies, with its values in order."""

    name: str

    values: tuple[Json, ...]


class Cell(Record, frozen=True, kw_only=True):
    """One combination of values, and its run once there is one. What was not measured is None."""

    values: tuple[Json, ...]
    """One an axis, in the order of the axes."""

    run_id: str | None = None

    state: JobState | None = None
    """None for a cell that has not been run."""

    duration_ms: float | None = None

    batch_size: int | None = None
    """Runs that were made in one call with it, itself included: the times are of the whole call."""

    denoise_ms: float | None = None

    peak_bytes: int | None = None
    """Of the device with the highest peak."""

    saved_ms: float | None = None
    """By the text-embedding cache."""

    error: str | None = None
    """Type and message of what ended it."""

    picture_sha256: str | None = None
    """The first output, or the picture that shows what it is."""


def cell_of(values: tuple[Json, ...], report: RunReport) -> Cell:
    """The cell with these values after its run."""
    return Cell(
        values=values,
        run_id=report.run_id,
        state=report.state,
        duration_ms=report.duration_ms,
        batch_size=report.batch_size,
        denoise_ms=report.timings.get("denoise_ms"),
        peak_bytes=max(report.memory.peak_bytes.values(), default=None),
        saved_ms=saved_ms(report),
        error=None if report.error is None else f"{report.error.type}: {report.error.message}",
        picture_sha256=next((a.preview_sha256 or a.sha256 for a in report.artifacts), None),
    )


def saved_ms(report: RunReport) -> float | None:
    """What the text-embedding cache saved this run; None where it was not asked."""
    known = [
        use.saved_ms or 0.0
        for use in report.cache_details
        if use.cache_type == EMBEDDING_CACHE and (use.saved_ms is not None or use.hits == 0)
    ]
    return sum(known) if known else None
