"""Memory meters and the sampling thread."""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

import numpy as np
import pytest
import torch

from omnirt_lab.pipelines.memory import LinuxRss, PortableRss, further_meters, meter_for
from omnirt_lab.pipelines.memory_sampling import MemorySampler, emit_reading
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.records import Memory, MemoryData, MemoryKind, StageEnd
from tests.pipelines import tiny
from tests.pipelines.recording import RecordingSink

MIB = 1024 * 1024

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class FakeMeter:
    """A device whose memory grows by a byte a reading."""

    device: Final = "cuda:3"
    kind: Final[MemoryKind] = "cuda_allocator"

    def __init__(self) -> None:
        self.readings = 0
        self.enough = threading.Event()

    def read(self) -> int | None:
        self.readings += 1
        if self.readings == 3:
            self.enough.set()
        return self.readings


def touch(mebibytes: int) -> None:
    np.ones(mebibytes * MIB, dtype=np.uint8).sum()


@linux_only
def test_the_peak_of_an_interval_holds_memory_that_is_given_back_within_it():
    meter = LinuxRss()
    meter.mark_peak()
    before = meter.take_peak()

    touch(64)
    peak = meter.take_peak()

    assert before is not None
    assert peak is not None
    assert 60 * MIB < peak - before < 80 * MIB
    assert meter.read() < peak - 40 * MIB


@linux_only
def test_a_new_interval_forgets_the_peak_of_the_last():
    meter = LinuxRss()
    meter.mark_peak()
    touch(64)
    first = meter.take_peak()

    meter.mark_peak()

    assert meter.take_peak() < first - 40 * MIB


@linux_only
def test_without_a_mark_there_is_no_peak():
    assert LinuxRss().take_peak() is None


@linux_only
class TensorsOf:
    """Counts what a component's calls take, as if the component alone was on this device."""

    kind = "cuda_allocator"

    def __init__(self, device: str, component: torch.nn.Module) -> None:
        self.device = device
        self._peak = 0
        component.register_forward_hook(self._add)

    def _add(self, _module: torch.nn.Module, _args: object, output: Any) -> None:
        self._peak = max(self._peak, output[0].nbytes)

    def read(self) -> int | None:
        return 0

    def mark_peak(self) -> None:
        self._peak = 0

    def take_peak(self) -> int | None:
        return self._peak


def test_devices_of_one_call_have_peaks_and_baselines_of_their_own():
    pipeline, sink = tiny.build("sd"), RecordingSink()
    first = TensorsOf("cuda:0", pipeline.text_encoder)
    second = TensorsOf("cuda:1", pipeline.unet)

    with Probe(pipeline, meter=first, others=[second]).watch(sink):
        pipeline(**tiny.call_options("sd", steps=2))

    peaks: dict[str, int] = {}
    for event in sink.of(StageEnd):
        for device, peak in event.data.other_peak_bytes.items():
            peaks[device] = max(peak, peaks.get(device, 0))
    assert peaks == {"cuda:1": 2 * 4 * 16 * 16 * 4}, "two latents of four channels in float32"
    assert {event.data.device for event in sink.of(Memory) if event.data.is_baseline} == {"cuda:0", "cuda:1"}


def test_only_other_gpus_are_further_devices():
    assert further_meters(LinuxRss(), ["cpu", "cuda:1", None]) == ()


def test_the_portable_meter_reads_the_same_resident_set_and_no_peak():
    portable = PortableRss()
    portable.mark_peak()

    assert portable.read() == pytest.approx(LinuxRss().read(), abs=8 * MIB)
    assert portable.take_peak() is None


def test_the_memory_of_a_process_is_never_called_a_devices():
    meter = meter_for("cpu")

    assert (meter.device, meter.kind) == ("cpu", "rss")


def test_a_reading_names_its_device_and_what_it_counts():
    sink = RecordingSink()

    emit_reading(FakeMeter(), sink, is_baseline=True)

    assert [event.data for event in sink.events] == [
        MemoryData(device="cuda:3", kind="cuda_allocator", current_bytes=1, is_baseline=True)
    ]


def test_the_sampler_emits_until_it_is_stopped():
    meter, sink = FakeMeter(), RecordingSink()
    sampler = MemorySampler(meter, sink)

    sampler.start()
    assert meter.enough.wait(timeout=30)
    sampler.stop()

    assert [event.data.current_bytes for event in sink.of(Memory)] == list(range(1, meter.readings + 1))
    assert sampler.spent_ns > 0


def test_a_sampler_that_was_never_started_can_be_stopped():
    MemorySampler(FakeMeter(), RecordingSink()).stop()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_the_cuda_meter_counts_what_the_allocator_has_handed_out():
    meter = meter_for("cuda")
    before = meter.read()
    meter.mark_peak()

    block = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
    held = meter.read()
    del block

    assert meter.kind == "cuda_allocator"
    assert meter.device == f"cuda:{torch.cuda.current_device()}"
    assert held - before == 64 * MIB
    assert meter.read() == before
    assert meter.take_peak() == held
