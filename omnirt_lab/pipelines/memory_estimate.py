"""What memory a run needs on each device, told before a weight is read: weights by dtype, activations by size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from msgspec.structs import replace

from omnirt_lab.pipelines.activations import UNCERTAINTY, CallShape, decoding_bytes, denoising_bytes
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.memory_room import Room, host_room, room_on
from omnirt_lab.pipelines.model_index import DENOISERS, read_config
from omnirt_lab.pipelines.stored_weights import WeightSize, local_folder, weight_sizes
from omnirt_lab.records import Config, MemoryNeed

HOST: Final = "cpu"
ALL_GPUS: Final = "all GPUs"

_VAE: Final = "vae"
_DEFAULT_DTYPE: Final = "float32"
_UNGUIDED: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """What of a checked request decides how much memory its run takes."""

    source: ModelSource

    config: Config
    """With its preset's values in it."""

    device: torch.device

    accepted: Mapping[str, inspect.Parameter]
    """Parameters of the pipeline's call, whose defaults stand where nothing is asked for."""

    rows: int = 1
    """Requests that share the call."""

    resident_bytes: Mapping[str, int] = field(default_factory=dict)
    """Device → what resident models hold there, which counts as available: this one's weights, or others' that go."""

    def changed(self, **settings: Any) -> Plan:
        """The same with other settings."""
        device = torch.device(settings.get("device", self.device))
        return Plan(
            self.source, replace(self.config, **settings), device, self.accepted, self.rows, self.resident_bytes
        )


def memory_needs(plan: Plan) -> tuple[MemoryNeed, ...]:
    """What the run takes of each device; empty where the size of its weights cannot be told.

    Raises
    ------
    ModelLoadError
        If the header of a file of weights is damaged.
    """
    config = plan.config
    sizes = weight_sizes(plan.source, dtype=config.dtype or _DEFAULT_DTYPE, quantization=config.quantization)
    if not sizes:
        return ()
    moments = _moments(plan)
    whole = sum(size.total_bytes for size in sizes.values())
    if plan.device.type == "cpu":
        return (_need(plan, HOST, room_on(plan.device), whole, _largest(moments)),)
    if config.device_map is not None:
        return (_need(plan, ALL_GPUS, _all_gpus(), whole, _largest(moments)),)
    weights, activations = most_at_once(sizes, moments, config)
    on_device = _need(plan, str(plan.device), room_on(plan.device), weights, activations)
    if (
        config.offload is None
    ):  # on its way there it is in the host's memory as pages of its files, which can be dropped
        return (on_device,)
    return (on_device, _need(plan, HOST, host_room(), whole, None))


def certain_bytes(need: MemoryNeed) -> int:
    """What the run needs at the very least."""
    return need.weight_bytes + (need.activation_bytes or 0) // UNCERTAINTY


def _need(plan: Plan, device: str, room: Room, weights: int, activations: int | None) -> MemoryNeed:
    resident = sum(plan.resident_bytes.values()) if device == ALL_GPUS else plan.resident_bytes.get(device, 0)
    return MemoryNeed(
        device=device,
        weight_bytes=weights,
        activation_bytes=activations,
        available_bytes=min(room.capacity_bytes, room.available_bytes + resident),
        capacity_bytes=room.capacity_bytes,
    )


def most_at_once(sizes: Mapping[str, WeightSize], moments: Mapping[str, int], config: Config) -> tuple[int, int | None]:
    """The weights and activations that are on the GPU together when most is there."""
    if config.offload is None:
        return sum(size.total_bytes for size in sizes.values()), _largest(moments)
    if config.offload != "model":
        return max(size.largest_layer_bytes for size in sizes.values()), _largest(moments)
    worst = max(sizes, key=lambda name: sizes[name].total_bytes + moments.get(name, 0))
    return sizes[worst].total_bytes, moments.get(worst, 0) if moments else None


def _moments(plan: Plan) -> dict[str, int]:
    """Component → what it needs beside its weights when it is called; empty where that is not known."""
    folder, shape = local_folder(plan.source), _call_shape(plan)
    if folder is None or shape is None:
        return {}
    vae = read_config(folder / _VAE)
    decoding = decoding_bytes(shape, vae)
    found = {} if decoding is None else {_VAE: decoding}
    for name in (*DENOISERS, *(f"{name}_2" for name in DENOISERS)):
        config = read_config(folder / name)
        needed = denoising_bytes(shape, config, vae) if config else None
        if needed is not None:
            found[name] = needed
    return found if len(found) > 1 else {}


def _call_shape(plan: Plan) -> CallShape | None:
    config, side = plan.config, plan.source.default_size_px
    width = config.width or _default(plan, "width") or side
    height = config.height or _default(plan, "height") or side
    if width is None or height is None:
        return None
    guidance = config.guidance_scale if config.guidance_scale is not None else _default(plan, "guidance_scale")
    return CallShape(
        width_px=int(width),
        height_px=int(height),
        frames=config.num_frames or int(_default(plan, "num_frames") or 1),
        rows=config.num_images * plan.rows,
        is_guided=guidance is not None and guidance > _UNGUIDED,
        dtype=config.dtype or _DEFAULT_DTYPE,
        vae_slicing=bool(config.vae_slicing),
        vae_tiling=bool(config.vae_tiling),
    )


def _default(plan: Plan, name: str) -> float | None:
    parameter = plan.accepted.get(name)
    default = None if parameter is None else parameter.default
    return default if isinstance(default, int | float) else None


def _largest(moments: Mapping[str, int]) -> int | None:
    return max(moments.values(), default=None)


def _all_gpus() -> Room:
    """All of them together, and the host, which takes what does not fit on them."""
    rooms = [*(room_on(torch.device("cuda", index)) for index in range(torch.cuda.device_count())), host_room()]
    return Room(sum(room.available_bytes for room in rooms), sum(room.capacity_bytes for room in rooms))
