"""The software and hardware of this process: whatever may change the bits of a picture."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
import torch

from omnirt_lab.records import Environment

PACKAGES: Final = (
    "omnirt-lab",
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
)


def environment() -> Environment:
    """The environment now; all but the number of torch's threads is read once a process."""
    return msgspec.structs.replace(_read_environment(), torch_threads=torch.get_num_threads())


@cache
def _read_environment() -> Environment:
    installed = {name: found for name in PACKAGES if (found := _find_version(name)) is not None}
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        packages=installed,
        cpu=_find_cpu_name(),
        gpu=_find_gpu_name(),
    )


def _find_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _find_cpu_name() -> str | None:
    """The processor's model name where Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or None


def _find_gpu_name() -> str | None:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return "Apple GPU (MPS)" if torch.backends.mps.is_available() else None
