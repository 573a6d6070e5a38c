"""Who stands by while a run goes on: a live view in a notebook, a line of progress elsewhere, or nobody."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.lab.progress import progress_listener
from omnirt_lab.lab.results import RunReport
from omnirt_lab.views.bundle import mimebundle
from omnirt_lab.widgets.cell import LATEST, Bundle, Cell, find_cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from omnirt_lab import records
    from omnirt_lab.journal import JobRecord, JobWriter, Journal
    from omnirt_lab.widgets.live_view import LiveView


def attend_run(journal: Journal, writer: JobWriter) -> AbstractContextManager[object]:
    """Show a run of the lab's own: live where a notebook's front end asks for it, else as a line of text."""
    cell = _live_cell()
    if cell is not None:
        return _live(journal, writer, cell)
    writer.listeners.append(progress_listener())
    return nullcontext()


def attend_call(journal: Journal, writer: JobWriter) -> AbstractContextManager[object]:
    """Show a call of an observed pipeline, which has a line of progress of its own: live, or not at all."""
    cell = _live_cell()
    return nullcontext() if cell is None else _live(journal, writer, cell)


def attend_wait(journal: Journal, job: JobRecord) -> AbstractContextManager[LiveView | None]:
    """Show a job that somebody waits for: live, to a view that hears its events from the first on, or not at all."""
    cell = _live_cell()
    return nullcontext() if cell is None else _view(journal, job, cell)


def _live_cell() -> Cell | None:
    """The cell in which to show what runs; None where the person does not want it, or nobody sees it."""
    wanted = SETTINGS.current.live
    cell = None if wanted is False else find_cell()
    return cell if cell is not None and (wanted or cell.has_person) else None


def _live(journal: Journal, writer: JobWriter, cell: Cell) -> LiveView:
    def ask_for_previews() -> None:
        writer.previews = True

    view = _view(journal, writer.job, cell, on_shown=ask_for_previews)
    for event in writer.events:
        view.hear(event)
    writer.listeners.append(view.hear)
    return view


def _view(journal: Journal, job: JobRecord, cell: Cell, *, on_shown: Callable[[], None] = lambda: None) -> LiveView:
    from omnirt_lab.widgets.live_view import LiveView  # loads anywidget

    return LiveView(journal, job, LATEST.of(cell), bundle_of=_bundle, on_shown=on_shown)


def _bundle(report: records.RunReport) -> Bundle:
    return mimebundle(report, RunReport.of(report).pictures())
