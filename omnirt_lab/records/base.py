"""What every record has in common."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None
"""A value as JSON has it. Stands only where users' own options are carried unread."""

Task = Literal["text2image", "image2image", "inpaint", "edit", "text2video", "image2video", "text2audio"]

VIDEO_TASKS: frozenset[Task] = frozenset({"text2video", "image2video"})

IMAGE_TASKS: frozenset[Task] = frozenset({"image2image", "inpaint", "edit", "image2video"})
"""What starts from a picture."""

ExecutionMode = Literal["legacy_call", "modular", "subprocess", "ray"]

Preset = Literal["fast", "balanced", "quality", "low-vram"]

Offload = Literal["model", "sequential", "group"]

Quantization = Literal["int8", "int4", "float8", "nf4"]

DenoiserCache = Literal["first_block", "taylorseer", "magcache", "pab"]

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]

TERMINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled", "lost"})

MemoryKind = Literal["cuda_allocator", "mps", "rss"]
"""What a memory figure counts: an allocator's bytes on its device, or the process's resident set."""

Clock = Literal["wall", "device"]
"""`wall`: Python's monotonic clock. `device`: events recorded on the accelerator's own stream."""


class Record(msgspec.Struct, frozen=True):
    """A value that may cross a process: immutable, and checked when decoded."""


def require(claim: bool, message: str) -> None:
    """Raise ValueError unless `claim` holds; msgspec turns it into a ValidationError when decoding."""
    if not claim:
        raise ValueError(message)
