"""Memory readings as events: single ones at marks, and ten a second from a thread while a pipeline runs."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Final

from omnirt_lab.pipelines.memory import MemoryMeter
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import MemoryData

INTERVAL_S: Final = 0.1
"""A faster thread takes the interpreter from the pipeline: 1 % of its time at 20 ms, 16 % at 1 ms."""


def emit_reading(meter: MemoryMeter, sink: Sink, *, is_baseline: bool = False) -> None:
    """Emit what the meter reads now, if it reads anything."""
    current_bytes = meter.read()
    if current_bytes is not None:
        data = MemoryData(device=meter.device, kind=meter.kind, current_bytes=current_bytes, is_baseline=is_baseline)
        sink.emit(data)


class MemorySampler:
    """A daemon thread that emits a reading every 100 ms, from `start` until `stop` has joined it."""

    def __init__(self, meter: MemoryMeter, sink: Sink) -> None:
        self._meter = meter
        self._sink = sink
        self._stopped = threading.Event()
        self._reading = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="omnirt-memory", daemon=True)
        self.spent_ns = 0
        """Time that the thread has spent in reading and emitting."""

    def start(self) -> None:
        """Start sampling; the first reading comes after one interval."""
        self._thread.start()

    def paused(self) -> AbstractContextManager[object]:
        """Take no reading in the block."""
        return self._reading

    def stop(self) -> None:
        """End the thread and wait for it; also right when it was never started."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            with self._reading:
                began_ns = self._sink.now_ns()
                emit_reading(self._meter, self._sink)
                self.spent_ns += self._sink.now_ns() - began_ns
