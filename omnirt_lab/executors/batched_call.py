"""Several jobs in one call of a pipeline, or one job in a call of the same size.

For one size of the batch a picture is the same bits, whatever the other prompts and seeds are. On the CPU they are also
those of a single run, or nearly so: what kernels for other shapes round differently is computed row by row. On a GPU
that would cost what is gained. Each job keeps its own events and gets its own report.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from omnirt_lab.errors import JobCancelledError
from omnirt_lab.executors.legacy_call import LegacyCall
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.executors.shared_writer import SharedWriter
from omnirt_lab.pipelines.batching import row_of, shared_arguments, takes_lists
from omnirt_lab.pipelines.call_arguments import seeded_generators
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import get_pipeline_class
from omnirt_lab.pipelines.resolution import generator_facts
from omnirt_lab.pipelines.row_rounding import rounded_as_alone
from omnirt_lab.records import (
    GenerateRequest,
    JobFinishedData,
    JobStartedData,
    Json,
    ProbeCost,
    Resolved,
    WarningData,
)

if TYPE_CHECKING:
    from contextlib import ExitStack

    from omnirt_lab.executors.legacy_call import Made
    from omnirt_lab.executors.run_writer import RunWriter
    from omnirt_lab.journal import JobWriter
    from omnirt_lab.pipelines.sites import AnyPipeline

SECOND: Final = 2


class Row(LegacyCall):
    """One job's part in a call that others share; running it stores the picture that the call has made."""

    def __init__(self, writer: JobWriter) -> None:
        super().__init__(writer.job.request, writer, RESOURCES)
        self.writer = writer
        self._made: Made | None = None

    @property
    def cost(self) -> ProbeCost:
        """What the probe cost in the shared call."""
        return ProbeCost() if self._made is None else self._made.finished.probe

    @property
    def own_arguments(self) -> dict[str, Any]:
        """What the call is given for this job alone."""
        inputs = self._request.inputs
        (generator,) = seeded_generators(self._seed, 1)
        return {"prompt": inputs.prompt, "negative_prompt": inputs.negative_prompt, "generator": generator}

    def take(self, made: Made) -> None:
        """Get what the call has made for this job."""
        self._made = made

    def run(self) -> JobFinishedData:
        """Store it."""
        assert self._made is not None, "the shared call comes first"
        if self.writer.is_cancel_requested():
            raise JobCancelledError("the job was cancelled", hint="Run it again to get its picture.")
        return self._stored(self._made)

    def alone(self) -> LegacyCall:
        """The job in a call of its own, as its second attempt."""
        return LegacyCall(self.writer.job.request, self.writer, RESOURCES, attempt=SECOND)


class RowsCall(LegacyCall):
    """One call that makes several rows."""

    def _load(self, stack: ExitStack) -> tuple[AnyPipeline, dict[str, Any]]:
        pipeline, arguments = super()._load(stack)
        stack.enter_context(rounded_as_alone(pipeline, self._rows))
        return pipeline, arguments


class BatchedCall(RowsCall):
    """One call for several jobs, whose requests have the same `shape_of`, or `can_share` a call."""

    def __init__(self, writers: Sequence[JobWriter]) -> None:
        self._each = tuple(map(self._row, writers))
        self._shared = SharedWriter(writers)
        super().__init__(writers[0].job.request, self._shared, RESOURCES)
        self._viewer = None
        self._rows = len(self._each)
        self._own: list[dict[str, Any]] = []
        self.was_called = False
        """Whether the pipeline has been called: what raises before has nothing to do with the batch."""

    def _row(self, writer: JobWriter) -> Row:
        return Row(writer)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The jobs that have not been cancelled."""
        return tuple(row for row in self._each if row.writer in self._shared.live)

    def make(self) -> None:
        """Load and call, and give each row what the call has made for it."""
        made = self._make()
        for index, row in enumerate(self._each):
            finished = self._finished(made.finished, index)
            row.take(made._replace(output=row_of(made.output, index, self._rows), finished=finished))

    def warning(self, error: Exception) -> WarningData:
        """What to tell the jobs that are tried again alone."""
        return WarningData(
            code="batch_failed",
            message=f"a call for {self._rows} jobs (group {self._shared.group_id}) raised {type(error).__name__}: "
            f"{error}"[:500],
            hint="This job was run again alone. If that happens often: lab.configure(max_batch_size=…) lower, or 1.",
        )

    def _resolved(self, pipeline: AnyPipeline, arguments: dict[str, Any]) -> Resolved:
        self._own = [row.own_arguments for row in self._each]
        first = super()._resolved(pipeline, arguments)  # takes milliseconds, so it is asked once
        self._shared.resolved = tuple(
            replace(
                first, config={**first.config, **_texts(own, arguments)}, generators=generator_facts(own["generator"])
            )
            for own in self._own
        )
        return self._shared.resolved[0]

    def _call(self, pipeline: AnyPipeline, arguments: dict[str, Any]) -> object:
        self.was_called = True
        return super()._call(pipeline, shared_arguments(arguments, self._own))

    def _finished(self, finished: JobFinishedData, index: int) -> JobFinishedData:
        stats = () if self._reading is None else self._reading.row_stats
        return replace(
            finished,
            latent_stats=stats[index] if stats else None,
            device_spans=self._shared.spans_of(self._each[index].writer, finished.device_spans),
        )


class PaddedCall(RowsCall):
    """One job in a call of a given size, whose other rows are copies of it: for the bits of a run that had company."""

    def __init__(self, request: GenerateRequest, writer: RunWriter, size: int) -> None:
        super().__init__(request, writer, RESOURCES)
        self._viewer = None
        self._rows = size

    def _started(self) -> JobStartedData:
        return replace(super()._started(), batch_size=self._rows, batch_group_id=secrets.token_hex(8))

    def _call(self, pipeline: AnyPipeline, arguments: dict[str, Any]) -> object:
        copies = [{**arguments, "generator": seeded_generators(self._seed, 1)[0]} for _ in range(self._rows)]
        return row_of(super()._call(pipeline, shared_arguments(arguments, copies)), 0, self._rows)

    def _make(self) -> Made:
        made = super()._make()
        stats = () if self._reading is None else self._reading.row_stats
        return made._replace(finished=replace(made.finished, latent_stats=stats[0] if stats else None))


def can_share(first: GenerateRequest, other: GenerateRequest, distance: int) -> bool:
    """Whether `other` may be in one call with `first`, as the picture whose seed is `distance` further on."""
    config = first.config
    return (
        first.task == "text2image"
        and config.execution_mode == "legacy_call"
        and config.num_images == 1
        and config.seed is not None
        and other == replace(first, config=replace(config, seed=config.seed + distance))
        and takes_lists(get_pipeline_class(get_model(first.model), first.task))
    )


def _texts(own: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Json]:
    return {name: own[name] for name in ("prompt", "negative_prompt") if name in arguments}
