"""What happens to several jobs at once, told to each of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from omnirt_lab.errors import JobCancelledError
from omnirt_lab.records import (
    CacheHitData,
    CacheMissData,
    DeviceSpan,
    EventData,
    JobCancelledData,
    JobStartedData,
    Resolved,
    StageEndData,
    StageErrorData,
    StageStartData,
    StepData,
    WarningData,
)

if TYPE_CHECKING:
    from omnirt_lab.journal import ArtifactStore, JobRecord, JobWriter


class SharedWriter:
    """A `RunWriter` that appends each event to several jobs, by each job's own clock and with its own facts.

    Its clock is `time.monotonic_ns`. What is counted once, as a hit of a cache is, is told to the first job alone.
    A job that is to be cancelled ends when that is noticed, and the others go on.
    """

    def __init__(self, writers: Sequence[JobWriter]) -> None:
        self._writers = tuple(writers)
        self._live = self._writers
        self._open_stages: list[str | None] = []
        self.group_id = secrets.token_hex(8)
        """16 hex digits that the reports of all of them name."""
        self.resolved: tuple[Resolved, ...] = ()
        """What each job's part of the call runs with, known when loading ends."""

    @property
    def live(self) -> tuple[JobWriter, ...]:
        """Those that have not been cancelled."""
        return self._live

    @property
    def job(self) -> JobRecord:
        """The first job."""
        return self._writers[0].job

    @property
    def worker_id(self) -> str:
        """The worker of all of them."""
        return self._writers[0].worker_id

    @property
    def artifacts(self) -> ArtifactStore:
        """Where the files of all of them go."""
        return self._writers[0].artifacts

    def now_ns(self) -> int:
        """Nanoseconds by the monotonic clock itself, whose zero is that of no job."""
        return time.monotonic_ns()

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Append the event to each job that goes on."""
        self._follow(data, stage)
        at_ns = self.now_ns() if t_ns is None else t_ns
        live = self._live
        for writer in live[:1] if _counts_once(data) else live:
            writer.emit(self._own(data, writer), stage=stage, t_ns=max(0, at_ns - writer.zero_ns))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Store what this thread emits in the block in one transaction a job."""
        with ExitStack() as stack:
            for writer in self._live:
                stack.enter_context(writer.together())
            yield

    def is_cancel_requested(self) -> bool:
        """End the jobs that are to be cancelled, and say whether all are."""
        for writer in self._live:
            if writer.is_cancel_requested():
                self._cancel(writer)
        return not self._live

    def wants_preview(self) -> bool:
        """A batch has no preview: it would show each job the pictures of all."""
        return False

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Never asked for."""

    def spans_of(self, writer: JobWriter, spans: Sequence[DeviceSpan]) -> tuple[DeviceSpan, ...]:
        """Times on this writer's clock as the job's own clock has them."""
        zero_ns = writer.zero_ns
        return tuple(
            replace(span, start_t_ns=span.start_t_ns - zero_ns, end_t_ns=span.end_t_ns - zero_ns) for span in spans
        )

    def _own(self, data: EventData, writer: JobWriter) -> EventData:
        """The fact as it is for one job."""
        if isinstance(data, JobStartedData):
            return replace(data, batch_size=len(self._writers), batch_group_id=self.group_id)
        if isinstance(data, StepData):
            return replace(data, start_t_ns=max(0, data.start_t_ns - writer.zero_ns))
        if isinstance(data, StageEndData) and data.resolved is not None:
            return replace(data, resolved=self.resolved[self._writers.index(writer)])
        return data

    def _follow(self, data: EventData, stage: str | None) -> None:
        if isinstance(data, StageStartData):
            self._open_stages.append(stage)
        elif isinstance(data, StageEndData | StageErrorData) and stage in self._open_stages:
            self._open_stages.remove(stage)

    def _cancel(self, writer: JobWriter) -> None:
        self._live = tuple(other for other in self._live if other is not writer)
        data = StageErrorData(type=JobCancelledError.__name__, message="the job was cancelled, and others went on")
        for stage in reversed(self._open_stages):
            writer.emit(data, stage=stage)
        writer.finish(JobCancelledData(reason="requested"))


def _counts_once(data: EventData) -> bool:
    """Whether it is a cache's hit, miss or eviction, which are as many as the call has, whoever shares it."""
    return isinstance(data, CacheHitData | CacheMissData) or (
        isinstance(data, WarningData) and data.eviction is not None
    )
