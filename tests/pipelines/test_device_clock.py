"""The accelerator's own clock."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
import torch

from omnirt_lab.pipelines.device_clock import clock_for
from omnirt_lab.pipelines.stages import StageLog
from omnirt_lab.records import DeviceSpan
from tests.pipelines.recording import RecordingSink
from tests.pipelines.test_memory import FakeMeter


class QuietMeter(FakeMeter):
    def mark_peak(self) -> None: ...

    def take_peak(self) -> int | None:
        return None


class LateClock:
    """A device that does everything a millisecond after Python has queued it."""

    def __init__(self, sink: RecordingSink) -> None:
        self._sink = sink

    def mark(self) -> int:
        return self._sink.now_ns()

    def resolve(self, marks: list[int]) -> list[int]:
        return [mark + 1_000_000 for mark in marks]


def test_a_cpu_has_no_clock_of_its_own():
    assert clock_for(torch.device("cpu"), time.monotonic_ns) is None


def test_each_emitted_stage_has_its_span_on_the_devices_clock():
    sink = RecordingSink()
    log = StageLog(sink, QuietMeter(), LateClock(sink))
    log.begin_call()

    log.start("text_encoder", class_name=None, device="cuda:3")
    log.end()
    log.finish_call(None)

    spans = log.device_spans()
    assert [span.stage for span in spans] == sink.stages
    assert all(isinstance(span, DeviceSpan) for span in spans)
    for span, (_, start_ns, end_ns) in zip(spans, sink.spans(), strict=True):
        assert span.start_t_ns >= start_ns + 1_000_000
        assert span.end_t_ns >= end_ns + 1_000_000


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_cuda_marks_come_back_in_order_and_hold_the_work_between_them():
    clock = clock_for(torch.device("cuda"), time.monotonic_ns)
    matrix = torch.rand(2048, 2048, device="cuda")
    torch.cuda.synchronize()
    before_ns = time.monotonic_ns()

    marks = [clock.mark()]
    for _ in range(3):
        matrix = matrix @ matrix
        marks.append(clock.mark())
    times = clock.resolve(marks)

    assert all(earlier < later for earlier, later in pairwise(times))
    assert before_ns - 1_000_000 <= times[0] <= times[-1] <= time.monotonic_ns()
