"""torch's profiler around a block of code, linked to the stages of the runs that the block makes."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.export import operators as export
from omnirt_lab.folds import operators as fold
from omnirt_lab.folds import trace
from omnirt_lab.folds.operators import OperatorCall, StageOperators
from omnirt_lab.lab.results import RunReport
from omnirt_lab.views import operators as view

if TYPE_CHECKING:
    import pandas as pd

    from omnirt_lab.engine import Engine
    from omnirt_lab.journal import JobRecord
    from omnirt_lab.pipelines.profiler import Profiler


class Profile:
    """What torch's profiler saw in a `with` block; shows itself as bars and tables. Empty until the block has ended.

    Watches the operators of the block's own thread, and those of the GPU. The runs that this thread makes are the
    profile's: generated ones and calls of observed pipelines, not those queued by `submit`.

    Parameters
    ----------
    sort, top
        As `omnirt_lab.profile` takes them.
    """

    def __init__(self, engine: Callable[[], Engine], *, sort: str, top: int) -> None:
        _check(sort, top)
        self._engine = engine
        self._sort, self._top = sort, top
        self._profiler: Profiler | None = None
        self._began_ns = 0
        self._runs: tuple[export.ProfiledRun, ...] = ()
        self._calls: tuple[OperatorCall, ...] = ()
        self.reports: tuple[RunReport, ...] = ()
        """Of the runs that the block has made, in their order. Each says that it was profiled."""
        self.stages: tuple[StageOperators, ...] = ()
        """The operators of each stage, over all runs; what ran outside of every stage comes last."""

    def to_text(self) -> str:
        """A table for each stage."""
        return view.profile_text(self._shown())

    def to_pandas(self) -> pd.DataFrame:
        """One row for each operator of each stage.

        Columns: `stage` (`<NA>` outside of the stages), `operator`, `calls`; `self_cpu_ms`, `cpu_ms`, `self_device_ms`
        and `device_ms` in float milliseconds, NaN where no device was profiled.
        """
        import pandas as pd

        rows = [
            {
                "stage": stage.stage,
                "operator": total.name,
                "calls": total.calls,
                "self_cpu_ms": total.self_cpu_ns / 1e6,
                "cpu_ms": total.cpu_ns / 1e6,
                "self_device_ms": None if total.self_device_ns is None else total.self_device_ns / 1e6,
                "device_ms": None if total.device_ns is None else total.device_ns / 1e6,
            }
            for stage in self.stages
            for total in stage.operators
        ]
        times = ("self_cpu_ms", "cpu_ms", "self_device_ms", "device_ms")
        kinds = {"stage": "string", "operator": "string", "calls": "int64", **dict.fromkeys(times, "float64")}
        return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)

    def to_chrome_trace(self, path: str | Path | None = None) -> dict[str, Any]:
        """Stages, steps, memory and operators as one Chrome trace, also written to `path`: open it in Perfetto."""
        content = export.encode(self._runs, self._calls)
        if path is not None:
            Path(path).write_bytes(content)
        decoded: dict[str, Any] = msgspec.json.decode(content)
        return decoded

    def __enter__(self) -> Self:
        from omnirt_lab.pipelines.profiler import Profiler  # loads torch

        self._engine()  # a history that cannot be kept is said now
        self._began_ns = time.monotonic_ns()
        self._profiler = Profiler()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._profiler is not None
        self._calls = self._profiler.stop()
        self._profiler = None
        self._runs = tuple(self._find_runs())
        self.reports = tuple(RunReport.of(run.report) for run in self._runs)
        spans = [span for run in self._runs for span in fold.spans_of(run.report, zero_ns=run.zero_ns)]
        self.stages = fold.by_stage(self._calls, spans)

    def _find_runs(self) -> Iterator[export.ProfiledRun]:
        """The runs that this process has made since the block began, but for those of its worker thread."""
        journal, worker_id = self._engine().journal, self._engine().worker.worker_id
        for job in reversed(list(self._jobs_since())):
            if job.worker_id == worker_id and not job.is_async:
                report = journal.get_report(job.run_id)
                yield export.ProfiledRun(report, trace.of_report(report, job_id=job.job_id), job.monotonic_ns)

    def _jobs_since(self) -> Iterator[JobRecord]:
        before_key: int | None = None
        while jobs := self._engine().journal.list_jobs(before_key=before_key):
            for job in jobs:
                if job.monotonic_ns < self._began_ns:
                    return
                yield job
            before_key = jobs[-1].key

    def _shown(self) -> view.Shown:
        return view.Shown(stages=self.stages, runs=len(self.reports), sort=self._sort, top=self._top)

    def __repr__(self) -> str:
        return f"<Profile: {view.headline(self._shown())}>"

    def __str__(self) -> str:
        return self.to_text()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        return view.mimebundle(self._shown())


def _check(sort: str, top: int) -> None:
    if sort not in view.SORTS:
        nearest = difflib.get_close_matches(sort, view.SORTS, n=1, cutoff=0.0)[0]
        raise InvalidRequestError(
            f"sort is {sort!r}", hint=f"Did you mean {nearest!r}? Known: {', '.join(view.SORTS)}."
        )
    if top < 1:
        raise InvalidRequestError(f"top is {top}", hint="Ask for at least one operator.")
