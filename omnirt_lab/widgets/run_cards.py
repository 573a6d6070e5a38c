"""The runs of a panel, newest first: each with its picture, what came of it, and a button that loads its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import ipywidgets
import traitlets

from omnirt_lab.records import AnyEvent, JobStarted, Step
from omnirt_lab.units import ms_from_ns
from omnirt_lab.views import panel as view
from omnirt_lab.views.canvas import fit_png

if TYPE_CHECKING:
    from omnirt_lab.journal import JobRecord, Preview
    from omnirt_lab.records import RunReport

THUMBNAIL_PX: Final = 72
PICTURE_PX: Final = 256
SMALL_PICTURE_PX: Final = 126
MAX_PICTURES: Final = 8
_PIXELS_PER_PX: Final = 2


class TitledImage(ipywidgets.Image):  # type: ignore[misc]  # ipywidgets has no types
    """An image whose `tooltip` is its accessible name."""

    description = traitlets.Unicode("").tag(sync=True)
    """Empty. The front end asks every widget that has a tooltip for it, and ipywidgets' own image has none to give."""


class RunCard:
    """One job of the panel, from waiting to its end.

    Parameters
    ----------
    load
        Called with this card when the person asks for its settings.
    cancel
        Called with this card when the person takes it back.
    """

    def __init__(self, job: JobRecord, *, load: Callable[[RunCard], None], cancel: Callable[[RunCard], None]) -> None:
        self.job = job
        self.report: RunReport | None = None
        self.has_started = False
        prompt = view.title(job.request.inputs.prompt)
        self._stage: str | None = None
        self._begun_ns: int | None = None
        self._step: Step | None = None
        self._thumbnail = TitledImage(format="png", tooltip=prompt, layout=_square(THUMBNAIL_PX, visible=False))
        self._place = ipywidgets.Box((self._thumbnail,), layout=_square(THUMBNAIL_PX))
        self._load = ipywidgets.Button(
            description=prompt,
            tooltip=f"Load the settings of: {prompt}",
            layout={"width": "auto", "max_width": "100%"},
        )
        self._load.on_click(lambda _: load(self))
        self._cancel = ipywidgets.Button(description="Cancel", tooltip=f"Cancel: {prompt}", layout={"width": "auto"})
        self._cancel.on_click(lambda _: cancel(self))
        self._words = ipywidgets.HTML(view.quiet(view.waiting(0)))
        self.widget = ipywidgets.HBox(
            (
                self._place,
                ipywidgets.VBox(
                    (ipywidgets.HBox((self._load, self._cancel)), self._words),
                    layout={"flex": "1 1 auto", "min_width": "0"},
                ),
            ),
            layout={"padding": "6px 0", "border_top": "1px solid var(--jp-border-color2, #d3d7de)", "grid_gap": "10px"},
        )

    @property
    def is_open(self) -> bool:
        """Whether the job has not ended."""
        return self.report is None

    def show_waiting(self, ahead: int) -> None:
        """Say how many of the panel's own runs come first."""
        self._words.value = view.quiet(view.waiting(ahead))

    def show_events(self, events: Sequence[AnyEvent]) -> None:
        """Say how far it is."""
        for event in events:
            self.has_started |= isinstance(event, JobStarted)
            if event.stage is not None:
                self._stage = event.stage
            if isinstance(event, Step):
                self._step = event
                self._begun_ns = event.data.start_t_ns if self._begun_ns is None else self._begun_ns
        if self.has_started:
            self._words.value = view.quiet(self._progress())

    def show_preview(self, preview: Preview | None) -> None:
        """Show what the picture will be, as far as can be told now."""
        if preview is not None:
            self._show_thumbnail(preview.content)

    def show_end(self, report: RunReport, pictures: Sequence[bytes]) -> None:
        """Show what came of it."""
        self.report = report
        self._cancel.layout.display = "none"
        self._words.value = view.ended(report)
        if pictures:
            self._show_thumbnail(pictures[0])
        else:
            self._thumbnail.layout.visibility = "hidden"

    def _progress(self) -> str:
        if self._step is None or self._begun_ns is None:
            return view.progress(self._stage, 0, None, None)
        done, total = self._step.data.index + 1, self._step.data.total
        per_step_ns = (self._step.t_ns - self._begun_ns) / done
        left_ms = None if total is None else ms_from_ns(round(per_step_ns * (total - done)))
        return view.progress(self._stage, done, total, left_ms)

    def _show_thumbnail(self, picture: bytes) -> None:
        self._thumbnail.value = fit_png(picture, THUMBNAIL_PX * _PIXELS_PER_PX)
        self._thumbnail.layout.visibility = "visible"


def picture_widgets(pictures: Sequence[bytes], prompt: str) -> tuple[Any, ...]:
    """The pictures large enough to look at: one wide, several in a grid."""
    side_px = PICTURE_PX if len(pictures) == 1 else SMALL_PICTURE_PX
    return tuple(
        TitledImage(
            value=fit_png(picture, side_px * _PIXELS_PER_PX),
            format="png",
            tooltip=f"Picture {index} of: {view.title(prompt)}",
            layout=_square(side_px),
        )
        for index, picture in enumerate(pictures[:MAX_PICTURES], start=1)
    )


def _square(side_px: int, *, visible: bool = True) -> dict[str, Any]:
    side = f"{side_px}px"
    return {
        "width": side,
        "height": side,
        "flex": "0 0 auto",
        "object_fit": "contain",
        "visibility": "visible" if visible else "hidden",
    }
