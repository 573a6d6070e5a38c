"""What the history shows of each run."""

from __future__ import annotations

from omnirt_lab.records.base import ExecutionMode, JobState, MemoryKind, Record


class RunRow(Record, frozen=True, kw_only=True):
    """What the history shows of a run without opening its report."""

    run_id: str
    job_id: str
    state: JobState
    task: str
    model: str
    backend: str
    execution_mode: ExecutionMode | None
    worker_id: str | None

    enqueued_at_ms: int
    """Wall clock, milliseconds since 1970."""

    finished_at_ms: int | None
    queue_wait_ms: float | None
    duration_ms: float | None
    prompt: str
    negative_prompt: str | None

    seed: int | None
    """Of the first picture; None where the run drew from the global state."""

    steps: int | None
    """Planned denoising steps."""

    guidance_scale: float | None
    width_px: int | None
    height_px: int | None
    num_images: int

    scheduler: str | None
    """The diffusers class that ran; what was asked for, where the run did not get so far."""

    batch_size: int | None
    memory_kind: MemoryKind | None

    peak_bytes: int | None
    """Of the device with the highest peak; what it counts, `memory_kind` says."""

    cache_hits: tuple[str, ...]

    saved_ms: float | None
    """By all caches together."""

    error_type: str | None

    artifact_sha256: str | None
    """The first output, or the picture that shows what it is."""

    timings: dict[str, float]
    """`<stage>_ms` → milliseconds."""

    tags: tuple[str, ...] = ()

    rating: int | None = None
    """1 to 5."""

    note: str | None = None

    deleted_at_ms: int | None = None
    """When it was put into the trash."""
