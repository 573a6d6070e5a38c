"""A sink that keeps the events, and what tests read from them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from omnirt_lab.records import AnyEvent, EventData, StageEnd, StageError, StageStart, make_event

E = TypeVar("E")


class RecordingSink:
    """Keeps the events of one job in memory."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._zero_ns = time.perf_counter_ns()

    def now_ns(self) -> int:
        return time.perf_counter_ns() - self._zero_ns

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        when_ns = self.now_ns() if t_ns is None else t_ns
        seq = len(self.events) + 1
        self.events.append(make_event(data, seq=seq, t_ns=when_ns, timestamp_ms=0, stage=stage))

    def of(self, event_class: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, event_class)]

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Name, start and end of each stage, in order; a stage that never ended is an error."""
        marks = [event for event in self.events if isinstance(event, (StageStart, StageEnd, StageError))]
        for start, end in zip(marks[::2], marks[1::2], strict=True):
            assert isinstance(start, StageStart)
            assert not isinstance(end, StageStart)
            assert start.stage == end.stage
            assert start.stage is not None
            yield start.stage, start.t_ns, end.t_ns

    @property
    def stages(self) -> list[str]:
        return [name for name, _, _ in self.spans()]

    @property
    def errors(self) -> list[tuple[str | None, str]]:
        return [(event.stage, event.data.type) for event in self.of(StageError)]
