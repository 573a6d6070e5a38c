"""The stages of one call: they follow each other, and together they are the call's wall time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from omnirt_lab.pipelines.device_clock import DeviceClock
from omnirt_lab.pipelines.memory import MemoryMeter
from omnirt_lab.pipelines.memory_sampling import emit_reading
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import DeviceSpan, StageEndData, StageErrorData, StageStartData, StepData

DENOISE: Final = "denoise"
PREPARE: Final = "prepare"
POSTPROCESS: Final = "postprocess"

SLIVER_NS: Final = 500_000
"""A gap between stages that is shorter is not worth its two events (0.2 ms in the journal) …"""

SLIVERS_SHARE: Final = 0.01
"""… as long as all that were left out are no more than this share of the call so far."""


class Mark(NamedTuple):
    """A moment on the sink's clock and, where there is one, in the device's queue."""

    t_ns: int
    device_mark: Any = None


@dataclass(frozen=True)
class OpenStage:
    """A stage that has started."""

    name: str
    start: Mark
    device: str | None


class MarkedSpan(NamedTuple):
    """A stage, or a step of one, between two marks."""

    stage: str
    start: Mark
    end: Mark
    step: int | None = None


class StageLog:
    """Emits the stages of one call.

    At most one is open. What lies between two of them is reported when the next one starts, as a stage of its own:
    `prepare` before denoising work and `postprocess` after it. What is known at one moment is emitted together. The
    time that this takes falls outside of the components' stages, but where one starts, inside.

    Parameters
    ----------
    others
        Meters of further devices with components, of the same kind; their peaks are told with every stage.
    """

    def __init__(
        self, sink: Sink, meter: MemoryMeter, clock: DeviceClock | None, others: Sequence[MemoryMeter] = ()
    ) -> None:
        self._sink = sink
        self._meter = meter
        self._others = tuple(others)
        self._clock = clock
        self._spans: list[MarkedSpan] = []
        self._skipped_ns = 0
        self._has_denoised = False
        self._peak_before: int | None = None
        """Peak of the open stage up to what was last left out of it."""
        self.open_stage: OpenStage | None = None
        self.error: BaseException | None = None
        """The exception that ended the latest stage."""
        self._gap_start = self._call_start = self.mark()

    def mark(self) -> Mark:
        """Take the time, on both clocks."""
        return Mark(self._sink.now_ns(), None if self._clock is None else self._clock.mark())

    def begin_call(self) -> None:
        """Let the first gap start now."""
        self._mark_peaks()
        self._gap_start = self._call_start = self.mark()

    @contextmanager
    def peak_left_out(self) -> Iterator[None]:
        """Count the memory of the block for no stage."""
        peak_bytes = self._meter.take_peak()
        if peak_bytes is not None:
            self._peak_before = max(peak_bytes, self._peak_before or 0)
        try:
            yield
        finally:
            self._meter.mark_peak()

    def start(self, name: str, *, class_name: str | None, device: str | None) -> None:
        """Open a stage."""
        with self._sink.together():
            start = self._report_gap(POSTPROCESS if self._has_denoised and name != DENOISE else PREPARE)
            self._has_denoised = self._has_denoised or name == DENOISE
            self.open_stage = OpenStage(name, start, device)
            self._sink.emit(StageStartData(class_name=class_name, device=device), stage=name, t_ns=start.t_ns)

    def end(self, at: Mark | None = None) -> None:
        """End the open stage, now or at an earlier mark."""
        stage, end = self._take_open(), at or self.mark()
        self._gap_start = end
        self._spans.append(MarkedSpan(stage.name, stage.start, end))
        with self._sink.together():
            self._emit_end(stage.name, stage.device, end)
            for meter in (self._meter, *self._others):
                emit_reading(meter, self._sink)

    def fail(self, error: BaseException) -> None:
        """End the open stage with the exception that is passing through it."""
        stage, end = self._take_open(), self.mark()
        self._gap_start, self.error = end, error
        self._emit_error(stage.name, error, end)

    def step(self, data: StepData, start: Mark, end: Mark) -> None:
        """Report one step of the denoise stage."""
        if self._clock is not None:
            self._spans.append(MarkedSpan(DENOISE, start, end, data.index))
        self._sink.emit(data, stage=DENOISE, t_ns=end.t_ns)

    def finish_call(self, error: BaseException | None) -> None:
        """Report what the call ended in: an open stage, or the gap since the last one."""
        with self._sink.together():
            if error is None:
                self._report_gap(POSTPROCESS if self._has_denoised else PREPARE)
            elif self.open_stage is not None:
                self.fail(error)
            elif error is not self.error:
                self._report_failed_gap(error)

    def device_spans(self) -> tuple[DeviceSpan, ...]:
        """The stages and steps on the device's clock, in order of their ends; waits for the device."""
        if self._clock is None:
            return ()
        marks = [mark.device_mark for span in self._spans for mark in (span.start, span.end)]
        times = self._clock.resolve(marks)
        return tuple(
            DeviceSpan(stage=span.stage, start_t_ns=start_ns, end_t_ns=end_ns, step=span.step)
            for span, start_ns, end_ns in zip(self._spans, times[::2], times[1::2], strict=True)
        )

    def _take_open(self) -> OpenStage:
        stage, self.open_stage = self.open_stage, None
        assert stage is not None
        return stage

    def _report_gap(self, name: str) -> Mark:
        """Report what lies behind the last stage, up to now, where the next one may start."""
        end = self.mark()
        gap_ns = end.t_ns - self._gap_start.t_ns
        call_ns = self._gap_start.t_ns + gap_ns - self._call_start.t_ns
        if gap_ns < SLIVER_NS and self._skipped_ns + gap_ns <= SLIVERS_SHARE * call_ns:
            self._skipped_ns += gap_ns
            self._mark_peaks()
            return end
        self._sink.emit(StageStartData(), stage=name, t_ns=self._gap_start.t_ns)
        self._spans.append(MarkedSpan(name, self._gap_start, end))
        self._emit_end(name, self._meter.device, end)
        return end

    def _report_failed_gap(self, error: BaseException) -> None:
        name = POSTPROCESS if self._has_denoised else PREPARE
        self._sink.emit(StageStartData(), stage=name, t_ns=self._gap_start.t_ns)
        self._emit_error(name, error, self.mark())

    def _emit_end(self, name: str, device: str | None, end: Mark) -> None:
        others = {meter.device: peak for meter in self._others if (peak := meter.take_peak()) is not None}
        peak_bytes = self._meter.take_peak() if device in (None, self._meter.device) else others.pop(device, None)
        if peak_bytes is not None and self._peak_before is not None:
            peak_bytes = max(peak_bytes, self._peak_before)
        self._peak_before = None
        kind = None if peak_bytes is None and not others else self._meter.kind
        data = StageEndData(peak_bytes=peak_bytes, memory_kind=kind, other_peak_bytes=others)
        self._sink.emit(data, stage=name, t_ns=end.t_ns)
        self._mark_peaks()

    def _mark_peaks(self) -> None:
        self._meter.mark_peak()
        for meter in self._others:
            meter.mark_peak()

    def _emit_error(self, name: str, error: BaseException, end: Mark) -> None:
        data = StageErrorData(type=type(error).__name__, message=str(error))
        self._sink.emit(data, stage=name, t_ns=end.t_ns)
