"""Facts that events carry and reports keep: pipelines, environments, artifacts, errors."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

import msgspec

from omnirt_lab.records.base import Clock, Json, MemoryKind, Record, require

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

Sha256: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{_SHA256.pattern}$"})]


class Artifact(Record, frozen=True, kw_only=True):
    """A file that a run made, stored by its sha256."""

    sha256: Sha256
    """64 lower-case hex digits of the stored bytes."""

    media_type: str
    """`image/png`, `video/mp4`, `audio/wav`."""

    size_bytes: int

    width_px: int | None = None

    height_px: int | None = None

    index: int = 0
    """Position among the run's outputs."""

    seed: int | None = None
    """Seed of this output's generator; None where the generator was the caller's."""

    preview_sha256: Sha256 | None = None
    """A stored PNG that shows at a glance what is no picture: a video's frames in a row, a sound's waveform."""

    raw_sha256: Sha256 | None = None
    """Of what the pipeline returned, before an encoding that loses some of it; None for pictures.

    Of a video's frames as uint8 (frames, height, width, 3), of a sound's samples as float32 (channels, samples).
    """

    frame_count: int | None = None

    fps: float | None = None
    """Frames a second of a video."""

    sample_rate_hz: int | None = None

    duration_s: float | None = None
    """Of a video or a sound."""

    def __post_init__(self) -> None:
        require(_SHA256.fullmatch(self.sha256) is not None, "sha256 must be 64 lower-case hex digits")


class ErrorInfo(Record, frozen=True, kw_only=True):
    """An exception, as far as it can cross a process."""

    type: str
    """Class name of the exception."""

    message: str

    hint: str | None = None

    stage: str | None = None
    """The stage that was open when it was raised."""

    traceback: str | None = None
    """The formatted traceback, without the lab's own frames where it can tell."""


class ComponentFacts(Record, frozen=True, kw_only=True):
    """One component of a pipeline, as it stood when the run began."""

    class_name: str

    device: str | None = None
    """`cpu`, `cuda:0`, `meta` …; None for components without weights."""

    dtype: str | None = None

    parameter_count: int | None = None

    parameter_bytes: int | None = None

    fingerprint: str | None = None
    """Checksum over names, shapes and values of all weights; None where it was not taken."""


class GeneratorFacts(Record, frozen=True, kw_only=True):
    """Where a run's randomness came from: one entry a generator."""

    device: str

    seed: int
    """`initial_seed()` of the generator."""

    state: str | None = None
    """base64 of the generator's state; None when it was freshly seeded, so that `seed` alone restores it."""


class Resolved(Record, frozen=True, kw_only=True):
    """What a call really runs with; known once the pipeline is in hand."""

    pipeline_class: str

    components: dict[str, ComponentFacts] = {}

    scheduler_config: dict[str, Json] = {}

    config: dict[str, Json] = {}
    """Every argument of the pipeline's call that JSON can hold, defaults filled in."""

    generators: tuple[GeneratorFacts, ...] | None = None
    """None when no generator was passed: the run drew from the global state and cannot be repeated."""


class Environment(Record, frozen=True, kw_only=True):
    """The software and hardware of the process that ran it; whatever changes bits."""

    python: str

    platform: str

    packages: dict[str, str] = {}
    """Installed versions by distribution name; absent ones are left out."""

    cpu: str | None = None

    gpu: str | None = None

    torch_threads: int | None = None


class LatentStats(Record, frozen=True, kw_only=True):
    """Statistics of the final latents, before the VAE."""

    shape: tuple[int, ...]

    mean: float | None

    std: float | None

    min: float | None

    max: float | None

    nan_count: int
    """NaN or infinite values; the other figures are None when there are any."""


class Eviction(Record, frozen=True, kw_only=True):
    """A cached value that had to go to make room, and what was measured when it went."""

    cache_type: str

    name: str
    """Of a model, for `resident_pipeline`."""

    device: str

    size_bytes: int
    """What it held on this device."""

    memory_kind: MemoryKind | None = None
    """What the readings count: all of a process's resident memory, or an accelerator's allocations."""

    before_bytes: int | None = None

    after_bytes: int | None = None

    @property
    def freed_bytes(self) -> int | None:
        """What the readings say, which others in the process move too; None where there is none."""
        if self.before_bytes is None or self.after_bytes is None:
            return None
        return max(0, self.before_bytes - self.after_bytes)


class DeviceSpan(Record, frozen=True, kw_only=True):
    """A stage or step as the accelerator's own clock saw it, known only after the final synchronize."""

    stage: str

    start_t_ns: int

    end_t_ns: int

    step: int | None = None


class BlockTiming(Record, frozen=True, kw_only=True):
    """One block of a modular pipeline, on the wall clock; what it took lies within the stages of the same time."""

    name: str
    """Its place among the blocks, such as `denoise.set_timesteps`."""

    class_name: str

    start_t_ns: int

    end_t_ns: int


class ProbeCost(Record, frozen=True, kw_only=True):
    """What the measurement itself cost and lost."""

    overhead_ns: int | None = None
    """Time spent in the probe's own code between the call's start and its end; None where no probe ran."""

    events_dropped: int = 0
    """Events that could not be written to the journal."""

    clock: Clock = "wall"
