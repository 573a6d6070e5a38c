"""Many runs over a grid of options: run in order, kept in the history, gone on with where they stopped."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from omnirt_lab import records
from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError
from omnirt_lab.executors import SPREAD
from omnirt_lab.folds.grid import Axis, Cell, cell_of
from omnirt_lab.journal import RunQuery
from omnirt_lab.lab.liveness import with_lost_ended
from omnirt_lab.lab.plan import Plan, check_name, request_key
from omnirt_lab.lab.results import GenerateResult, RunReport, result_of
from omnirt_lab.lab.stores import STORES
from omnirt_lab.lab.sweep_progress import RunCount, run_count
from omnirt_lab.records import MAX_IMAGES, GenerateRequest, JobState
from omnirt_lab.views import sweep as view

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from omnirt_lab.engine import Engine
    from omnirt_lab.widgets.sweep_explorer import SweepExplorer

TAG: Final = "sweep:"
"""Before the sweep's name, in the tags of its runs."""

_STANDS: Final[tuple[JobState, ...]] = ("succeeded", "failed")
"""A cell whose run ended so is not run again; one that was cancelled or lost is."""

_KINDS: Final[dict[Any, Any]] = {
    "run_id": "string",
    "state": "string",
    "duration_ms": "float64",
    "denoise_ms": "float64",
    "batch_size": "Int64",
    "peak_bytes": "Int64",
    "saved_ms": "float64",
    "error": "string",
}
"""Columns of the frame after the swept options → their pandas dtype."""


class Sweep:
    """The cells of a grid and their runs, in the grid's order. Shows itself as a figure, its pictures and a table.

    Its runs are in the history under the tag `sweep:<name>`: there it is found again, by `resume` or by a sweep of the
    same name, in any process.
    """

    def __init__(self, engine: Callable[[], Engine], plan: Plan, name: str | None, *, batch_size: int = 1) -> None:
        if batch_size < 1:
            raise InvalidRequestError(f"batch_size is {batch_size}", hint="Use 1, or more to share calls.")
        self._batch_size = min(batch_size, MAX_IMAGES)
        self._engine = engine
        self._plan = plan
        self.name = secrets.token_hex(4) if name is None else check_name(name)
        self._cells = [Cell(values=values) for values in plan.values]
        self._keys = {request_key(request): index for index, request in enumerate(plan.requests)}
        self.was_interrupted = False

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The options that vary, the last one fastest."""
        return self._plan.axes

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every combination, with its run's figures where it has been run."""
        return tuple(self._cells)

    @property
    def results(self) -> tuple[GenerateResult | None, ...]:
        """One a cell, read from the history; of a failed one `report.error` says why, and one not yet run is None."""
        journal = self._engine().journal
        return tuple(
            None if cell.run_id is None else result_of(RunReport.of(journal.get_report(cell.run_id)))
            for cell in self._cells
        )

    @property
    def is_complete(self) -> bool:
        """Whether every cell has been run, failed ones included."""
        return all(cell.state in _STANDS for cell in self._cells)

    @property
    def saved_ms(self) -> float | None:
        """What the text-embedding cache saved in all runs, by their reports; None where it was never asked."""
        known_ms = [cell.saved_ms for cell in self._cells if cell.saved_ms is not None]
        return sum(known_ms) if known_ms else None

    @property
    def grid(self) -> bytes:
        """The pictures as one PNG, with the values and times as labels."""
        return self.to_png()

    def resume(self, *, progress: bool = True, retry_failed: bool = False) -> Self:
        """Run the cells that are missing, in this thread, and return this sweep.

        Those of the mode `ray` run side by side, as many as the cluster has room for. Cells that this or another
        process has run under this name are not run again.

        Parameters
        ----------
        progress
            Show a line of progress.
        retry_failed
            Run failed cells again, too.
        """
        self._find_runs()
        if retry_failed:
            self._cells = [Cell(values=cell.values) if cell.state == "failed" else cell for cell in self._cells]
        missing = [index for index, cell in enumerate(self._cells) if cell.state not in _STANDS]
        self.was_interrupted = False
        engine = self._engine()
        run_before = engine.last_run_id
        try:
            with run_count(len(missing), wanted=progress) as count:
                self._run_here([index for index in missing if not self._is_spread(index)], count)
                self._run_spread([index for index in missing if self._is_spread(index)], count)
        except KeyboardInterrupt:
            self.was_interrupted = True
            if engine.last_run_id not in (None, run_before):
                self._keep_if_ended(str(engine.last_run_id))
        return self

    def _run_here(self, missing: Sequence[int], count: RunCount) -> None:
        """Run cells one after the other, or some together in one call."""
        engine = self._engine()
        for batch in self._batches(missing):
            requests = [self._plan.requests[index] for index in batch]
            for index, report in zip(batch, _attempt(engine, requests, count), strict=True):
                self._keep(index, report)
                count.advance()

    def _run_spread(self, missing: Sequence[int], count: RunCount) -> None:
        """Run cells side by side, elsewhere."""

        def done(place: int, report: records.RunReport) -> None:
            self._keep(missing[place], report)
            count.advance()

        if missing:
            self._engine().attempt_spread([self._plan.requests[index] for index in missing], done)

    def _is_spread(self, index: int) -> bool:
        return self._plan.requests[index].config.execution_mode in SPREAD

    def to_pandas(self) -> pd.DataFrame:
        """One row a cell.

        Columns: each swept option; `run_id`, `state` (`<NA>` where not run); `duration_ms`, `denoise_ms`, `saved_ms`
        (by the text-embedding cache) in float milliseconds, NaN where unknown; `peak_bytes`, nullable `Int64`; `error`;
        `batch_size`: with how many runs, itself included, it shared its call, whose times those are.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            axis.name: [cell.values[index] for cell in self._cells] for index, axis in enumerate(self.axes)
        }
        figures = {name: [getattr(cell, name) for cell in self._cells] for name in _KINDS}
        return pd.DataFrame({**columns, **figures}).astype(_KINDS)

    def to_dict(self) -> dict[str, Any]:
        """The sweep as JSON-ready values."""
        fields: dict[str, Any] = msgspec.to_builtins(
            {"name": self.name, "axes": self.axes, "cells": self._cells, "saved_ms": self.saved_ms}
        )
        return fields

    def to_text(self) -> str:
        """What came of it in a sentence, and a table with one line a cell."""
        return view.sweep_text(self._shown())

    def to_png(self, path: str | Path | None = None, *, scale: int = 2) -> bytes:
        """The grid of pictures as a PNG, also written to `path` if given."""
        from omnirt_lab.views import sweep_png  # loads Pillow

        content = sweep_png.grid_png(self._shown(), scale=scale)
        if path is not None:
            Path(path).write_bytes(content)
        return content

    def figure(self) -> Figure:
        """Parallel coordinates over swept options and figures, as a plotly Figure to change or save as you like.

        Raises
        ------
        InvalidRequestError
            If fewer than two runs have succeeded, which parallel coordinates cannot tell apart.
        """
        from plotly.graph_objects import Figure  # heavy

        figure = view.figure_dict(self._shown())
        if figure is None:
            raise InvalidRequestError(
                f"sweep {self.name}: {view.outcome(self.cells)}; a figure needs two",
                hint="resume() runs what is missing, resume(retry_failed=True) what has failed, too.",
            )
        return Figure(figure)

    def explore(self) -> SweepExplorer:
        """The runs as lines over parallel axes, to brush: `selection` is the DataFrame of those that are left.

        It needs this kernel; what the sweep shows by itself stays in a saved notebook.
        """
        from omnirt_lab.widgets.sweep_explorer import SweepExplorer  # loads IPython

        return SweepExplorer(self._shown(), self.to_pandas)

    def _batches(self, missing: Sequence[int]) -> Iterator[list[int]]:
        """The cells to run, in their order; those that may share a call together, up to the batch size."""
        batch: list[int] = []
        for index in missing:
            if batch and not self._may_join(batch, index):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _may_join(self, batch: Sequence[int], index: int) -> bool:
        if len(batch) >= self._batch_size:
            return False
        from omnirt_lab.executors.batched_call import can_share  # loads torch

        return can_share(self._plan.requests[batch[0]], self._plan.requests[index], len(batch))

    def _keep(self, index: int, report: records.RunReport) -> None:
        self._engine().journal.tag(report.run_id, TAG + self.name)
        self._cells[index] = cell_of(self._cells[index].values, report)

    def _keep_if_ended(self, run_id: str) -> None:
        """Keep a run that had come to its end when the interrupt arrived, so that it is not run again."""
        report = self._engine().journal.get_report(run_id)
        index = self._keys.get(request_key(report.request))
        if index is not None and report.state in _STANDS:
            self._keep(index, report)

    def _find_runs(self) -> None:
        """Take over what the history has under this name."""
        journal = with_lost_ended(self._engine().journal)
        known = {cell.run_id for cell in self._cells}
        for row in journal.query_runs(RunQuery(tag=TAG + self.name)):
            if row.state not in _STANDS or row.run_id in known:
                continue
            report = journal.get_report(row.run_id)
            index = self._keys.get(request_key(report.request))
            if index is not None and self._cells[index].state not in ("succeeded", row.state):
                self._cells[index] = cell_of(self._cells[index].values, report)

    def _shown(self) -> view.Shown:
        return view.Shown(
            name=self.name,
            prompt=self._plan.requests[0].inputs.prompt,
            axes=self.axes,
            cells=self.cells,
            saved_ms=self.saved_ms,
            pictures=_pictures(self._cells[: view.MAX_PICTURES]),
        )

    def __len__(self) -> int:
        return len(self._cells)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<Sweep {self.name!r}: {view.outcome(self.cells)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:  # noqa: ARG002  # IPython's
        return view.mimebundle(self._shown())


def _attempt(engine: Engine, requests: Sequence[GenerateRequest], count: RunCount) -> tuple[records.RunReport, ...]:
    if len(requests) == 1:
        return (engine.attempt(requests[0], listeners=[count]),)
    return engine.attempt_together(requests, listeners=[count])


def _pictures(cells: Sequence[Cell]) -> tuple[bytes | None, ...]:
    """The first picture of each run; None where there is none, or it was purged."""
    found: list[bytes | None] = []
    for cell in cells:
        try:
            found.append(None if cell.picture_sha256 is None else STORES.read(cell.picture_sha256))
        except ArtifactNotFoundError:
            found.append(None)
    return tuple(found)
