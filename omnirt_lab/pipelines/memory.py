"""Meters of memory: one reading, and the highest one since a mark. Each says what it counts.

Sources: proc(5) for `statm`, `clear_refs` (5 resets the peak) and `VmHWM`; the "Memory management" chapters of
https://docs.pytorch.org/docs/stable/cuda.html and https://docs.pytorch.org/docs/stable/mps.html.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

import psutil
import torch

from omnirt_lab.records import MemoryKind
from omnirt_lab.units import BYTES_PER_KIB

RESET_PEAK_RSS: Final = b"5"
PROC_FILE_BYTES: Final = 4096


class MemoryMeter(Protocol):
    """Memory of one device."""

    @property
    def device(self) -> str:
        """`cpu`, `cuda:0`, `mps:0`."""

    @property
    def kind(self) -> MemoryKind:
        """What the figures count."""

    def read(self) -> int | None:
        """Bytes in use now; None where they cannot be read."""

    def mark_peak(self) -> None:
        """Begin a new interval for `take_peak`."""

    def take_peak(self) -> int | None:
        """Highest bytes in use since `mark_peak`; None where nobody keeps that count."""


class LinuxRss:
    """Resident set of this process, with the kernel's own exact peak.

    Marking resets the process's peak (`VmHWM`) for every other reader too. The files stay open as long as the meter
    lives, and belong to the process that made it.
    """

    device: Final = "cpu"
    kind: Final[MemoryKind] = "rss"

    def __init__(self) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._statm = self._open("/proc/self/statm", os.O_RDONLY)
        self._status = self._open("/proc/self/status", os.O_RDONLY)
        self._is_marked = False
        try:
            self._clear_refs: int | None = self._open("/proc/self/clear_refs", os.O_WRONLY)
        except OSError:  # some sandboxes forbid it
            self._clear_refs = None

    def read(self) -> int | None:
        """Resident bytes now."""
        return int(os.pread(self._statm, PROC_FILE_BYTES, 0).split()[1]) * self._page_bytes

    def mark_peak(self) -> None:
        """Reset the kernel's peak."""
        if self._clear_refs is not None:
            os.pwrite(self._clear_refs, RESET_PEAK_RSS, 0)
            self._is_marked = True

    def take_peak(self) -> int | None:
        """Highest resident bytes since the mark; None where resetting the peak is forbidden."""
        if not self._is_marked:
            return None
        _, _, rest = os.pread(self._status, PROC_FILE_BYTES, 0).partition(b"VmHWM:")
        return int(rest.split(maxsplit=1)[0]) * BYTES_PER_KIB

    def _open(self, path: str, flags: int) -> int:
        descriptor = os.open(path, flags)
        weakref.finalize(self, os.close, descriptor)
        return descriptor


class PortableRss:
    """Resident set of this process where there is no /proc; nobody keeps its peak."""

    device: Final = "cpu"
    kind: Final[MemoryKind] = "rss"

    def __init__(self) -> None:
        self._process = psutil.Process()

    def read(self) -> int | None:
        """Resident bytes now."""
        return int(self._process.memory_info().rss)

    def mark_peak(self) -> None:
        """Nothing to reset."""

    def take_peak(self) -> int | None:
        """None: only samples are known."""
        return None


class CudaAllocator:
    """What torch's caching allocator has handed out on one CUDA device. Counted on the host: no synchronize."""

    kind: Final[MemoryKind] = "cuda_allocator"

    def __init__(self, device: torch.device) -> None:
        self._device = torch.empty(0, device=device).device  # with its index

    @property
    def device(self) -> str:
        """`cuda:0` and so on."""
        return str(self._device)

    def read(self) -> int | None:
        """Allocated bytes now."""
        return torch.cuda.memory_allocated(self._device)

    def mark_peak(self) -> None:
        """Reset the allocator's peak."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def take_peak(self) -> int | None:
        """Highest allocated bytes since the mark."""
        return torch.cuda.max_memory_allocated(self._device)


class MpsAllocator:
    """What torch has allocated on Apple's GPU; it keeps no peak, so only samples are known."""

    device: Final = "mps:0"
    kind: Final[MemoryKind] = "mps"

    def read(self) -> int | None:
        """Allocated bytes now."""
        return torch.mps.current_allocated_memory()

    def mark_peak(self) -> None:
        """Nothing to reset."""

    def take_peak(self) -> int | None:
        """None: only samples are known."""
        return None


def meter_for(device: torch.device | str) -> MemoryMeter:
    """The meter of this device; the process's resident set where the device's own memory cannot be read."""
    device = torch.device(device)
    if device.type == "cuda":
        return CudaAllocator(device)
    if device.type == "mps":
        return MpsAllocator()
    return LinuxRss() if sys.platform == "linux" else PortableRss()


def further_meters(meter: MemoryMeter, devices: Iterable[str | None]) -> tuple[MemoryMeter, ...]:
    """Meters of the other GPUs among these devices, where `meter` is of one."""
    if meter.kind != "cuda_allocator":
        return ()
    names = dict.fromkeys(name for name in devices if name is not None and name != meter.device)
    return tuple(CudaAllocator(torch.device(name)) for name in names if torch.device(name).type == "cuda")
