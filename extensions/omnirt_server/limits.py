"""What the server takes and keeps at most."""

from __future__ import annotations

from omnirt_lab.records import Record
from omnirt_lab.units import BYTES_PER_MIB


class Limits(Record, frozen=True, kw_only=True):
    """Bounds of one server; the contract (`/openapi.json`) states them."""

    body_bytes: int = 16 * BYTES_PER_MIB
    """Of any request, pictures included."""

    message_bytes: int = 256 * 1024
    """Of one WebSocket message."""

    picture_px: int = 4096 * 4096
    """Pixels of one uploaded picture."""

    queued_jobs: int = 100
    """Jobs that may wait in one queue; one more is answered 429."""

    realtime_responses: int = 16
    """Responses that one realtime session may have under way."""

    allowed_models: tuple[str, ...] = ("tiny-shapes",)
    """What requests may have loaded, beside the pipelines that notebooks publish."""

    allowed_adapters: tuple[str, ...] = ()
    """Sources of LoRA adapters that requests may name."""

    allow_compile: bool = False
    """Whether requests may have the denoiser compiled, which takes a runner minutes for each new shape."""
