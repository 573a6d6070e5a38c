"""A stage around a block of the executor's own work, such as loading and exporting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.records import Resolved, StageEndData, StageErrorData, StageStartData


@dataclass
class StageResult:
    """What the block may add to the stage's end."""

    resolved: Resolved | None = None


@contextmanager
def timed_stage(sink: Sink, name: str) -> Iterator[StageResult]:
    """Time the block; one that raises, or is interrupted, ends its stage with the error and passes it on."""
    sink.emit(StageStartData(), stage=name)
    result = StageResult()
    try:
        yield result
    except BaseException as error:  # an interrupt from the notebook ends a stage too
        sink.emit(StageErrorData(type=type(error).__name__, message=str(error)), stage=name)
        raise
    sink.emit(StageEndData(resolved=result.resolved), stage=name)
