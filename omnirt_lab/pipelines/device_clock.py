"""The accelerator's own clock: when queued work really ran, known after one synchronize at the end.

Source: "CUDA semantics, asynchronous execution", https://docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from omnirt_lab.units import NS_PER_MS


class DeviceClock(Protocol):
    """Marks points in a device's queue of work."""

    def mark(self) -> Any:
        """Queue a mark behind the work that is queued now, without waiting."""

    def resolve(self, marks: list[Any]) -> list[int]:
        """Wait for the device and give each mark's `t_ns`, on the sink's clock."""


class CudaClock:
    """Events on the current stream of one CUDA device, tied to the sink's clock at a single anchor."""

    def __init__(self, device: torch.device, now_ns: Callable[[], int]) -> None:
        self._device = device
        self._now_ns = now_ns

    def mark(self) -> torch.cuda.Event:
        """Queue an event."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch types it by a stub only
        event.record(torch.cuda.current_stream(self._device))
        return event

    def resolve(self, marks: list[Any]) -> list[int]:
        """Synchronize once; the anchor is an event recorded last, so that the host's clock is read when it is done."""
        anchor = self.mark()
        torch.cuda.synchronize(self._device)
        anchor_ns = self._now_ns()
        return [anchor_ns - round(mark.elapsed_time(anchor) * NS_PER_MS) for mark in marks]


def clock_for(device: torch.device, now_ns: Callable[[], int]) -> DeviceClock | None:
    """The device's clock; None where the wall clock is all there is."""
    return CudaClock(device, now_ns) if device.type == "cuda" else None
