"""What a pipeline holds in memory, what pipelines may hold, and what letting one go gives back."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from diffusers import DiffusionPipeline

from omnirt_lab.pipelines.memory import meter_for
from omnirt_lab.pipelines.memory_room import host_room
from omnirt_lab.pipelines.module_state import tensors_of
from omnirt_lab.pipelines.weights import held_in
from omnirt_lab.records import MemoryKind

SHARE_OF_HOST: Final = 0.5
"""The notebook, its data and the operating system need memory, too."""

SHARE_OF_GPU: Final = 0.7
"""The rest is for activations."""

_HOST: Final = "cpu"


@dataclass(frozen=True)
class Reclaimed:
    """Memory in use on one device before something was let go and after it; None where it cannot be read."""

    kind: MemoryKind

    before_bytes: int | None

    after_bytes: int | None


def held_bytes(pipeline: DiffusionPipeline) -> dict[str, int]:
    """Device → bytes of all parameters and buffers of the pipeline's components, each storage counted once.

    Weights that stand on the meta device between calls are brought from the host's memory, and count there.
    """
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    storages: dict[tuple[str, int], int] = {}
    for module in modules:
        for tensor in tensors_of(module):
            storages.update(_storage(part) for part in held_in(tensor))
    held: dict[str, int] = {}
    for (device, _), size_bytes in storages.items():
        held[device] = held.get(device, 0) + size_bytes
    return held


def weight_bytes(pipeline: DiffusionPipeline) -> int:
    """What the pipeline holds on all devices together."""
    return sum(held_bytes(pipeline).values())


def default_budget_bytes(device: str) -> int:
    """What resident pipelines may take on this device where nobody has said it: a share of what is there."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * SHARE_OF_GPU)
    return int(_host_bytes() * SHARE_OF_HOST)


def reclaim(device: str, let_go: Callable[[], None]) -> Reclaimed:
    """Let go, and read the device's memory before and after it: garbage that was there already counts in neither."""
    meter = meter_for(device)
    free_memory()
    before_bytes = meter.read()
    let_go()
    free_memory()
    return Reclaimed(meter.kind, before_bytes, meter.read())


def free_memory() -> None:
    """Give back whatever nobody needs."""
    gc.collect()  # pipelines and their modules refer to each other in circles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = _find_trim()
    if trim is not None:
        trim(0)  # glibc keeps freed blocks of up to 32 MiB for itself, and the resident set would not show them gone


@cache
def _find_trim() -> Callable[[int], Any] | None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            return ctypes.CDLL("libc.so.6").malloc_trim
    return None


@cache
def _host_bytes() -> int:
    """Read once: it is asked for in each run, and a limit hardly changes while the process lives."""
    return host_room().capacity_bytes


def _storage(tensor: torch.Tensor) -> tuple[tuple[str, int], int]:
    """Device and place of a tensor's storage, and its size."""
    if tensor.is_meta:
        return (_HOST, -id(tensor)), tensor.numel() * tensor.element_size()
    storage = tensor.untyped_storage()
    return (str(tensor.device), storage.data_ptr()), storage.nbytes()
