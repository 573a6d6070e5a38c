"""A run as it goes on, in the output of the cell that runs it, and in the end its report in the same place."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from omnirt_lab.errors import LabError
from omnirt_lab.folds import report as report_fold
from omnirt_lab.journal.clock import monotonic_zero_ns
from omnirt_lab.records import AnyEvent, RunReport
from omnirt_lab.units import NS_PER_S
from omnirt_lab.views.live import live_state
from omnirt_lab.views.text import report_text
from omnirt_lab.widgets.cell import Bundle, CellOutput
from omnirt_lab.widgets.live_widget import LiveWidget

if TYPE_CHECKING:
    from omnirt_lab.journal import JobRecord, Journal

SHOW_AFTER_S: Final = 0.3
"""A run that has ended by then shows its result, and nothing that flashes by before it."""

UPDATE_EVERY_S: Final = 0.1

TIMES_THE_COST: Final = 500
"""After an update, so many times what it took the processor must pass before the next one: 0.2 %, as the previews that
a view asks for may take 0.6 %."""

_log: Final = logging.getLogger(__name__)


class LiveView:
    """Shows one job from its first event to its last. Watching never breaks a run: what fails here is logged.

    1. `hear` puts each event into a line, and nothing else: it is called in the thread of the run.
    2. One thread folds what stands in the line into the report so far, and shows that, until the block is left.
    3. A press of Stop is heard in any thread; the thread of 2. asks the journal to cancel the job, as anybody may.
    4. When the block is left, the output becomes the report, as plain data, and the widget is gone.

    Parameters
    ----------
    bundle_of
        Makes what is shown in the end.
    on_shown
        Called once there is something to see.
    """

    def __init__(
        self,
        journal: Journal,
        job: JobRecord,
        output: CellOutput,
        *,
        bundle_of: Callable[[RunReport], Bundle],
        on_shown: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._job = job
        self._output = output
        self._bundle_of = bundle_of
        self._on_shown = on_shown
        self._zero_ns = monotonic_zero_ns(
            boot=job.boot_id, monotonic_ns=job.monotonic_ns, wall_clock_ms=job.enqueued_at_ms
        )
        self._line: deque[AnyEvent] = deque()
        self._state = report_fold.initial(job_id=job.job_id)
        self._widget: LiveWidget | None = None
        self._preview_step: int | None = None
        self._wants_stop = self._has_asked = self._is_over = False
        self._wake = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._follow,), name="omnirt-live", daemon=True
        )

    def hear(self, event: AnyEvent) -> None:
        """Take the job's next event, the first one first."""
        self._line.append(event)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._wake.set()
        self._thread.join()
        try:
            self._end()
        except Exception:  # noqa: BLE001  # the run has its result, whatever became of its view
            _log.warning("a run's live view could not be ended", exc_info=True)

    def _follow(self) -> None:
        try:
            self._wake.wait(SHOW_AFTER_S)
            while not self._is_over:
                is_first = self._widget is None
                began_ns = time.thread_time_ns()
                self._show()
                spent_ns = 0 if is_first else time.thread_time_ns() - began_ns  # opening it costs once
                self._wake.wait(max(UPDATE_EVERY_S, TIMES_THE_COST * spent_ns / NS_PER_S))
                self._wake.clear()
        except Exception:  # noqa: BLE001  # watching a run must never break it
            _log.warning("a run's live view has ended early", exc_info=True)
        finally:
            self._journal.close_thread()

    def _show(self) -> None:
        self._cancel_if_wanted()
        report = self._report()
        if report is None:
            return
        state = live_state(report, now_ns=max(0, time.monotonic_ns() - self._zero_ns))
        widget = self._widget
        if widget is None:
            widget = self._widget = LiveWidget(self._stop)
            widget.show(state, is_stopping=False)
            self._output.show(widget.bundle())
            self._on_shown()
        else:
            widget.show(state, is_stopping=self._wants_stop)
        self._show_preview(widget)

    def _report(self) -> RunReport | None:
        """The report so far; None before the first event."""
        while self._line:
            self._state = report_fold.apply(self._state, self._line.popleft())
        return report_fold.to_report(self._state) if self._state.seq else None

    def _show_preview(self, widget: LiveWidget) -> None:
        try:
            preview = self._journal.find_preview(self._job.job_id)
        except LabError:  # the journal cannot be read now; the next update asks again
            return
        if preview is not None and preview.step != self._preview_step:
            self._preview_step = preview.step
            widget.show_preview(preview.content, preview.media_type)

    def _stop(self) -> None:
        self._wants_stop = True
        self._wake.set()

    def _cancel_if_wanted(self) -> None:
        if not self._wants_stop or self._has_asked:
            return
        try:
            self._journal.request_cancel(self._job.job_id)
            self._has_asked = True
        except LabError:  # another process holds the journal; the next update asks again
            return

    def _end(self) -> None:
        """Put the report in the place of the widget, if there is one; then close that, never before."""
        widget, self._widget = self._widget, None
        if widget is None:
            return
        report = self._report()
        try:
            if report is not None:
                self._output.show(self._bundle(report), report_of=report.run_id)
        finally:
            widget.close()

    def _bundle(self, report: RunReport) -> Bundle:
        try:
            return self._bundle_of(report)
        except Exception:  # noqa: BLE001  # the text is better than a widget that is gone
            _log.warning("a run's report could not be drawn", exc_info=True)
            return {"text/plain": report_text(report)}
