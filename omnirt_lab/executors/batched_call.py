"""Several jobs in one call of a pipeline: their requests are equal but for seeds that count up.

Pictures differ from those of single runs by what other kernels for other shapes round differently; they are the same
bits whenever the batch has the same size. Each job keeps its own events and gets its own report.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from omnirt_lab.executors.export import Export
from omnirt_lab.executors.legacy_call import LegacyCall
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.pipelines.call_arguments import find_sample_rate_hz, frame_rate
from omnirt_lab.pipelines.outputs import Outputs, find_warnings, outputs_of
from omnirt_lab.records import (
    Artifact,
    CacheHitData,
    CacheMissData,
    EventData,
    GenerateRequest,
    JobFinishedData,
    JobStartedData,
    StageEndData,
    StepData,
)

if TYPE_CHECKING:
    from omnirt_lab.journal import ArtifactStore, JobRecord, JobWriter
    from omnirt_lab.pipelines.sites import AnyPipeline


class SharedWriter:
    """A `RunWriter` that tells each of several jobs what happens to all of them, on the job's own clock.

    What is counted once, a hit or miss of a cache, is told to the first job alone.
    """

    def __init__(self, writers: Sequence[JobWriter]) -> None:
        self._writers = tuple(writers)
        first = writers[0].job.monotonic_ns
        self._later_ns = tuple(first - writer.job.monotonic_ns for writer in writers)
        self._group_id = secrets.token_hex(8)

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
        """Nanoseconds since the first job was enqueued."""
        return self._writers[0].now_ns()

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Append the event to each job; `t_ns` is by the first job's clock."""
        at_ns = self.now_ns() if t_ns is None else t_ns
        concerned = 1 if isinstance(data, CacheHitData | CacheMissData) else len(self._writers)
        for index, writer in enumerate(self._writers[:concerned]):
            writer.emit(self._own(data, index), stage=stage, t_ns=at_ns + self._later_ns[index])

    @contextmanager
    def together(self) -> Iterator[None]:
        """Store what this thread emits in the block in one transaction a job."""
        with ExitStack() as stack:
            for writer in self._writers:
                stack.enter_context(writer.together())
            yield

    def is_cancel_requested(self) -> bool:
        """Whether nobody wants a picture of this call any more."""
        return all(writer.is_cancel_requested() for writer in self._writers)

    def wants_preview(self) -> bool:
        """A batch has no preview: it would be of all pictures."""
        return False

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        """Never asked for."""

    def finished(self, data: JobFinishedData, index: int, artifacts: tuple[Artifact, ...]) -> JobFinishedData:
        """What the job's terminal event says; figures over the latents of all are none of one job."""
        later_ns = self._later_ns[index]
        spans = tuple(
            replace(span, start_t_ns=span.start_t_ns + later_ns, end_t_ns=span.end_t_ns + later_ns)
            for span in data.device_spans
        )
        return replace(data, artifacts=artifacts, device_spans=spans, latent_stats=None)

    def _own(self, data: EventData, index: int) -> EventData:
        """The fact as it is for one job."""
        if isinstance(data, JobStartedData):
            return replace(data, batch_size=len(self._writers), batch_group_id=self._group_id)
        if isinstance(data, StepData):
            return replace(data, start_t_ns=data.start_t_ns + self._later_ns[index])
        if isinstance(data, StageEndData) and data.resolved is not None and data.resolved.generators is not None:
            own = (data.resolved.generators[index],)
            return replace(data, resolved=replace(data.resolved, generators=own))
        return data


class BatchedCall(LegacyCall):
    """One call that makes a picture for each job, as a request for as many pictures does."""

    def __init__(self, requests: Sequence[GenerateRequest], writers: Sequence[JobWriter]) -> None:
        first = requests[0]
        self._shared = SharedWriter(writers)
        self._writers = tuple(writers)
        self._stored: list[tuple[Artifact, ...]] = []
        whole = replace(first, config=replace(first.config, num_images=len(requests)))
        super().__init__(whole, self._shared, RESOURCES)

    def run_each(self) -> tuple[JobFinishedData, ...]:
        """Make the call, and return what each job's terminal event will say."""
        finished = self.run()
        return tuple(self._shared.finished(finished, index, artifacts) for index, artifacts in enumerate(self._stored))

    def _export(self, pipeline: AnyPipeline, output: object) -> tuple[Artifact, ...]:
        outputs = outputs_of(output)
        self._warn(find_warnings(output, outputs))
        whole: dict[str, Any] = {
            "fps": frame_rate(pipeline, self._request),
            "sample_rate_hz": find_sample_rate_hz(pipeline),
        }
        for index, (writer, image) in enumerate(zip(self._writers, outputs.images, strict=True)):
            export = Export(writer, seeds=(self._seed + index,), **whole)
            self._stored.append(export.store(Outputs(images=(image,))))
        return ()


def can_share(first: GenerateRequest, other: GenerateRequest, distance: int) -> bool:
    """Whether `other` may be in one call with `first`, as the picture whose seed is `distance` further on."""
    config = first.config
    return (
        first.task == "text2image"
        and config.execution_mode == "legacy_call"
        and config.num_images == 1
        and config.seed is not None
        and other == replace(first, config=replace(config, seed=config.seed + distance))
    )
