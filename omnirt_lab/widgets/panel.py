"""A control panel: a form over a model's real options, and the runs that were made with it beneath."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import ipywidgets

from omnirt_lab.errors import LabError
from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent, Task
from omnirt_lab.views import panel as view
from omnirt_lab.widgets.following import JobFollower
from omnirt_lab.widgets.form import RequestForm
from omnirt_lab.widgets.hearing import hear_while_busy
from omnirt_lab.widgets.run_cards import PICTURE_PX, RunCard, picture_widgets
from omnirt_lab.widgets.tree import close_all, each_widget

if TYPE_CHECKING:
    from omnirt_lab.journal import JobRecord, Journal
    from omnirt_lab.pipelines.call_options import CallOptions
    from omnirt_lab.records import RunReport

MAX_CARDS: Final = 50
"""Runs that the panel keeps in sight; the history has all."""

_AHEAD: Final = 1
"""Priority of what is to run next, before what waits."""

_BESIDE_LABELS: Final = "4px 0 4px 86px"

_log: Final = logging.getLogger(__name__)


class Workbench(Protocol):
    """What a panel asks of the lab. Any of it may raise a LabError, which the panel shows."""

    @property
    def journal(self) -> Journal:
        """Where the jobs are read."""
        ...

    def model_names(self) -> tuple[str, ...]:
        """The models to choose from, the first to begin with."""
        ...

    def tasks_of(self, model: str) -> tuple[Task, ...]:
        """What the model can do."""
        ...

    def options_of(self, model: str, task: Task) -> CallOptions:
        """What the model's pipeline takes for this task."""
        ...

    def submit(self, prompt: str, options: Mapping[str, Any], *, priority: int) -> JobRecord:
        """Queue a run, and return at once."""
        ...

    def get_report(self, run_id: str) -> RunReport:
        """The report of a run."""
        ...

    def pictures_of(self, report: RunReport) -> Sequence[bytes]:
        """Encoded pictures that the run made, as far as they are still there."""
        ...


class Panel(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The panel as a widget. Its callbacks only queue and cancel; what runs is followed from a thread of its own."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._cards: list[RunCard] = []
        self._lock = threading.RLock()
        self._follower = JobFollower(bench.journal, self._show_events)
        self._form = RequestForm(bench.model_names(), tasks_of=bench.tasks_of, options_of=bench.options_of)
        self._problem = ipywidgets.HTML(layout={"margin": _BESIDE_LABELS})
        self._pictures = ipywidgets.Box(layout=_PICTURES)
        self._caption = ipywidgets.HTML()
        self._history = ipywidgets.VBox()
        self._buttons = self._make_buttons()
        super().__init__(self._parts(), layout={"max_width": "900px"})
        self._form.model.observe(lambda _: self._answer(self._form.offer_tasks), "value")
        self._form.task.observe(lambda _: self._answer(self._form.offer_fields), "value")
        self._answer(self._form.offer_tasks)
        self._show_queue()
        for part in each_widget(self):  # the fields, too: what is written while a cell runs counts when Run is pressed
            hear_while_busy(part.comm)

    @property
    def reports(self) -> tuple[RunReport, ...]:
        """The reports of this panel's runs that have ended, newest first."""
        with self._lock:
            return tuple(card.report for card in self._cards if card.report is not None)

    def close(self) -> None:
        """Follow the runs no more, and take the panel off the page; what is queued goes on."""
        self._follower.close()
        for part in (*self.children, self.layout):
            close_all(part)
        super().close()

    def _make_buttons(self) -> dict[str, Any]:
        buttons = {
            "run": ipywidgets.Button(
                description="Run", button_style="primary", tooltip="Run this next, before what waits"
            ),
            "queue": ipywidgets.Button(description="Queue", tooltip="Run this after what waits already"),
            "stop": ipywidgets.Button(description="Stop", tooltip="Stop the run at its next step"),
        }
        buttons["run"].on_click(lambda _: self._answer(lambda: self._submit(_AHEAD)))
        buttons["queue"].on_click(lambda _: self._answer(lambda: self._submit(0)))
        buttons["stop"].on_click(lambda _: self._answer(self._stop))
        for button in buttons.values():
            button.layout.width = "96px"
        return buttons

    def _parts(self) -> tuple[Any, ...]:
        buttons = ipywidgets.HBox(tuple(self._buttons.values()), layout={"margin": _BESIDE_LABELS})
        form = ipywidgets.VBox((self._form.widget, buttons, self._problem), layout={"flex": "1 1 400px"})
        shown = ipywidgets.VBox((self._pictures, self._caption), layout={"flex": f"0 1 {PICTURE_PX + 4}px"})
        top = ipywidgets.Box((form, shown), layout={"display": "flex", "flex_flow": "row wrap", "grid_gap": "16px"})
        return top, self._history

    def _answer(self, act: Callable[[], None]) -> None:
        """Do what a person asked for; what goes wrong is said under the form, and nothing in it is lost."""
        try:
            act()
        except LabError as error:
            self._problem.value = view.problem(str(error), error.hint)
        except Exception as error:  # noqa: BLE001  # a widget's callback has nobody else to tell
            _log.exception("the panel could not do what was asked")
            self._problem.value = view.problem(
                f"{type(error).__name__}: {error}", "The kernel's log has the traceback."
            )
        else:
            self._problem.value = ""

    def _submit(self, priority: int) -> None:
        prompt, options = self._form.words()
        with self._lock:  # held until the card stands, so that no event finds none
            job = self._bench.submit(prompt, options, priority=priority)
            card = RunCard(job, load=self._load, cancel=self._cancel)
            for part in each_widget(card.widget):
                hear_while_busy(part.comm)
            self._cards.insert(0, card)
            ended = [card for card in self._cards if not card.is_open]
            for old in ended[MAX_CARDS:]:
                self._cards.remove(old)
            self._follower.follow(job.job_id)
        self._show_queue()
        for old in ended[MAX_CARDS:]:
            close_all(old.widget)

    def _stop(self) -> None:
        with self._lock:
            opened = self._queue()
        if opened:
            self._bench.journal.request_cancel(opened[0].job.job_id)

    def _cancel(self, card: RunCard) -> None:
        self._answer(lambda: self._request_cancel(card))

    def _request_cancel(self, card: RunCard) -> None:
        self._bench.journal.request_cancel(card.job.job_id)

    def _load(self, card: RunCard) -> None:
        self._answer(lambda: self._load_settings(card))

    def _load_settings(self, card: RunCard) -> None:
        report = card.report
        drawn = None if report is None else next((made.seed for made in report.artifacts), None)
        self._form.load(card.job.request, seed=card.job.request.config.seed if drawn is None else drawn)
        if report is not None:
            self._show_run(report, self._bench.pictures_of(report))

    def _queue(self) -> list[RunCard]:
        """What has not ended, in the order in which it runs."""
        opened = [card for card in reversed(self._cards) if card.is_open]
        return sorted(opened, key=lambda card: (not card.has_started, -card.job.priority))

    def _show_queue(self) -> None:
        with self._lock:
            opened = self._queue()
            for ahead, card in enumerate(opened):
                if not card.has_started:
                    card.show_waiting(ahead)
            self._buttons["stop"].disabled = not opened
            self._history.children = tuple(card.widget for card in self._cards)

    def _show_events(self, job_id: str, events: Sequence[AnyEvent]) -> None:
        """1. The card says how far its job is; 2. its end brings the pictures, and moves the queue on."""
        with self._lock:
            card = next(card for card in self._cards if card.job.job_id == job_id)
        if not isinstance(events[-1], TERMINAL_EVENTS):
            had_started = card.has_started
            with self._lock:  # a click may be at work on the queue meanwhile
                card.show_events(events)
            card.show_preview(self._bench.journal.find_preview(job_id))
            if had_started != card.has_started:
                self._show_queue()
            return
        report = self._bench.get_report(card.job.run_id)
        pictures = self._bench.pictures_of(report)
        if pictures:
            self._show_run(report, pictures)
        with self._lock:
            card.show_end(report, pictures)
        self._show_queue()

    def _show_run(self, report: RunReport, pictures: Sequence[bytes]) -> None:
        shown = picture_widgets(pictures, report.request.inputs.prompt)
        with self._lock:  # a run may end while another one's settings are loaded
            old, self._pictures.children = self._pictures.children, shown
            self._caption.value = view.outcome(report)
        for picture in old:
            close_all(picture)

    def __repr__(self) -> str:
        return "a control panel, which lives as long as its kernel: omnirt_lab.panel() makes another"


_PICTURES: Final = {
    "display": "flex",
    "flex_flow": "row wrap",
    "grid_gap": "4px",
    "min_height": f"{PICTURE_PX}px",
}
