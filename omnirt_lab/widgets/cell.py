"""The cell that runs: who has asked for it, and the one output in which its runs are shown."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

Bundle = dict[str, Any]
"""Mime type → content, as IPython's `display(..., raw=True)` takes it."""


class Cell(NamedTuple):
    """What the request said that this thread is at work for."""

    id: str
    """Of the request, so another one each time that the same cell is run."""

    has_person: bool
    """A notebook's front end sent it, which shows widgets. One that runs without a person, such as nbclient or
    papermill, cannot be asked for input and does not name the cell."""


class CellOutput:
    """An output of a cell that can be replaced: whatever becomes of its runs, a cell has one."""

    def __init__(self, cell: Cell) -> None:
        from IPython.display import DisplayHandle  # only in a kernel

        self.cell = cell
        self.run_id: str | None = None
        """The run whose report is shown."""
        self._handle = DisplayHandle()
        self._is_shown = False

    def show(self, bundle: Bundle, *, report_of: str | None = None) -> None:
        """Show this in the place of what was there; `report_of` is the run whose report it is."""
        show = self._handle.update if self._is_shown else self._handle.display
        self._is_shown, self.run_id = True, report_of
        show(bundle, raw=True)


class LatestOutput:
    """Where the output of the latest cell stands; of this process."""

    output: CellOutput | None = None

    def of(self, cell: Cell) -> CellOutput:
        """The output of this cell, made if it has none."""
        if self.output is None or self.output.cell.id != cell.id:
            self.output = CellOutput(cell)
        return self.output


LATEST = LatestOutput()


def find_cell() -> Cell | None:
    """The cell for which this thread is at work; None outside of a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    request = shell.get_parent()
    header, content = request.get("header", {}), request.get("content", {})
    is_named = "cellId" in request.get("metadata", {})
    return Cell(id=header.get("msg_id", ""), has_person=is_named and bool(content.get("allow_stdin")))


def is_shown_here(run_id: str) -> bool:
    """Whether the cell that runs shows the report of this run already."""
    cell = find_cell()
    output = LATEST.output
    return cell is not None and output is not None and output.cell.id == cell.id and output.run_id == run_id
