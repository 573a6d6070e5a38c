"""The report explorer: a report to look around in, whose selection a cell can read and set."""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import traitlets

from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError
from omnirt_lab.records import Record, RunReport
from omnirt_lab.records.base import require
from omnirt_lab.views.explorer import ExplorerPage, brushed, explorer_page
from omnirt_lab.views.text import report_text
from omnirt_lab.widgets.hearing import HeardWidget

MAX_PICTURES: Final = 16
"""More are counted, not shown: each goes to the browser in its own size."""

_CARD_SCALE: Final = 1

_log: Final = logging.getLogger(__name__)


class Selection(Record, frozen=True, kw_only=True):
    """What is selected in an explorer: a stretch of time, and a stage or a step. What is not selected is None.

    Times are milliseconds since a worker took the job, as on the explorer's axis.

    Raises
    ------
    ValueError
        For half of a stretch, one that does not end after it begins, or a stage together with a step.
    """

    start_ms: float | None = None
    """Where the brush begins."""

    end_ms: float | None = None
    """Where the brush ends."""

    stage: str | None = None
    """Name of the selected stage, such as `denoise`: all of its calls."""

    step: int | None = None
    """Index of the selected denoising step, from 0."""

    def __post_init__(self) -> None:
        require((self.start_ms is None) == (self.end_ms is None), "a brush has both start_ms and end_ms, or neither")
        if self.start_ms is not None and self.end_ms is not None:
            require(math.isfinite(self.start_ms) and math.isfinite(self.end_ms), "a brush lies between two numbers")
            require(0 <= self.start_ms < self.end_ms, f"a brush from {self.start_ms} ms ends at {self.end_ms} ms")
        require(self.stage is None or self.step is None, "either a stage or a step can be selected")


def _to_front_end(selection: Selection, explorer: ReportExplorer) -> Mapping[str, Any]:  # noqa: ARG001  # traitlets'
    fields: dict[str, Any] = msgspec.to_builtins(selection)
    return fields


def _from_front_end(sent: object, explorer: ReportExplorer) -> Selection:
    """Keep what is selected where the message is none that this explorer's front end would send."""
    try:
        selection = msgspec.convert(sent, Selection)
        explorer.check(selection)
    except (msgspec.ValidationError, InvalidRequestError) as error:
        _log.warning("a front end's selection is ignored: %s", error)
        return explorer.selection
    return selection


class ReportExplorer(HeardWidget):
    """A report as a widget; made by `report.explore()`.

    Parameters
    ----------
    report
        What to look at.
    read
        Gives a stored file by its sha256, or raises ArtifactNotFoundError.
    """

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")

    selection = traitlets.Instance(Selection, help="What is selected now; set another one to change it.").tag(
        sync=True, to_json=_to_front_end, from_json=_from_front_end
    )

    _page = traitlets.Dict(help="ExplorerPage: all that is shown, as text and scaled times.").tag(sync=True)
    _pictures = traitlets.List(traitlets.Bytes(), help="Encoded pictures, in order.").tag(sync=True)
    _brushed = traitlets.Dict(help="Figures of the brushed stretch; empty where there is none.").tag(sync=True)

    def __init__(self, report: RunReport, *, read: Callable[[str], bytes]) -> None:
        found = dict(_found(report, read))
        page = explorer_page(report, shown=tuple(found))
        self._report = report
        self._known = _known_names(page)
        super().__init__(selection=Selection(), _page=msgspec.to_builtins(page), _pictures=list(found.values()))

    @property
    def report(self) -> RunReport:
        """The report that is shown."""
        return self._report

    def select(
        self,
        *,
        start_ms: float | None = None,
        end_ms: float | None = None,
        stage: str | None = None,
        step: int | None = None,
    ) -> None:
        """Select anew, as the fields of `Selection` say; what is left out is not selected any more.

        Raises
        ------
        InvalidRequestError
            If the run has no such stretch, stage or step.
        """
        try:
            self.selection = Selection(start_ms=start_ms, end_ms=end_ms, stage=stage, step=step)
        except ValueError as error:
            if isinstance(error, InvalidRequestError):
                raise
            raise InvalidRequestError(f"{error}", hint="See omnirt_lab.widgets.explorer.Selection.") from error

    def check(self, selection: Selection) -> None:
        """Hold a selection against the run.

        Raises
        ------
        InvalidRequestError
            If the run has no such stretch, stage or step.
        """
        total_ms = self._page["total_ms"]
        if selection.end_ms is not None and selection.end_ms > total_ms:
            raise InvalidRequestError(
                f"the brush ends at {selection.end_ms} ms, after the run", hint=f"The run's axis ends at {total_ms} ms."
            )
        stages, steps = self._known
        if selection.stage is not None and selection.stage not in stages:
            raise InvalidRequestError(
                f"the run has no stage {selection.stage!r}", hint=f"Its stages: {', '.join(stages) or 'none'}."
            )
        if selection.step is not None and selection.step not in steps:
            raise InvalidRequestError(
                f"the run has no step {selection.step}", hint=f"It has {len(steps)} steps, counted from 0."
            )

    def set_state(self, sync_data: Mapping[str, object]) -> None:
        """Take the selection from the front end, and nothing else."""
        super().set_state({name: value for name, value in sync_data.items() if name == "selection"})

    @traitlets.validate("selection")
    def _checked(self, proposal: Mapping[str, Any]) -> Selection:
        selection: Selection = proposal["value"]
        self.check(selection)
        return selection

    @traitlets.observe("selection")
    def _brush(self, change: Mapping[str, Any]) -> None:
        now: Selection = change["new"]
        if now.start_ms is None or now.end_ms is None:
            self._brushed = {}
        else:
            self._brushed = msgspec.to_builtins(brushed(self._report, now.start_ms, now.end_ms))

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and for whoever cannot show it the report's card and text."""
        from omnirt_lab.views.png import report_png  # loads Pillow

        card = report_png(self._report, self._pictures, scale=_CARD_SCALE)
        fallback = {"image/png": base64.b64encode(card).decode(), "text/plain": report_text(self._report)}
        data, metadata = super()._repr_mimebundle_() or ({}, {})
        return {**data, **fallback}, metadata

    def __repr__(self) -> str:
        return f"<ReportExplorer of run {self._report.run_id}>"


def _found(report: RunReport, read: Callable[[str], bytes]) -> Iterator[tuple[int, bytes]]:
    """Index of an artifact, and the picture to look at, of the first that are there."""
    shown = 0
    for index, artifact in enumerate(report.artifacts):
        if shown == MAX_PICTURES:
            return
        try:
            yield index, read(artifact.preview_sha256 or artifact.sha256)
            shown += 1
        except ArtifactNotFoundError:
            continue


def _known_names(page: ExplorerPage) -> tuple[dict[str, None], frozenset[int]]:
    """Stages in the order of their lanes, and indexes of steps."""
    bars = [bar for lane in page.lanes for bar in lane.bars]
    stages = dict.fromkeys(bar.stage for bar in bars if bar.stage is not None)
    return stages, frozenset(bar.step for bar in bars if bar.step is not None)
