"""Progress of a run in the terminal or the cell: one line, from the run's own step events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, NoReturn

from tqdm import tqdm

from omnirt_lab.records import TERMINAL_EVENTS, AnyEvent, Step
from omnirt_lab.units import NS_PER_S, s_from_ns

_UPDATE_EVERY_NS: Final = NS_PER_S // 10
_COLUMNS: Final = 72


class TerminalProgress:
    """A tqdm bar on stderr, made at the first step and gone at the end."""

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __call__(self, event: AnyEvent) -> None:
        """Move the bar."""
        if isinstance(event, Step):
            if self._bar is None:
                self._bar = tqdm(total=event.data.total, desc=event.stage, unit="step", leave=False, file=sys.stderr)
            self._bar.update(event.data.index + 1 - self._bar.n)
        elif isinstance(event, TERMINAL_EVENTS) and self._bar is not None:
            self._bar.close()


class CellProgress:
    """A line of text in the cell's output, updated in place, at most ten times a second.

    It is an ordinary display that keeps its last state, so that a saved notebook holds no widget.
    """

    def __init__(self) -> None:
        from IPython.display import DisplayHandle  # only in a kernel

        self._handle = DisplayHandle()
        self._is_shown = False
        self._drawn_ns = 0
        self._began_ns = 0

    def __call__(self, event: AnyEvent) -> None:
        """Redraw the line, unless it was drawn just now."""
        if not isinstance(event, Step):
            return
        done, total = event.data.index + 1, event.data.total
        if event.data.index == 0:
            self._began_ns = event.data.start_t_ns
        if done != total and event.t_ns - self._drawn_ns < _UPDATE_EVERY_NS:
            return
        self._drawn_ns = event.t_ns
        elapsed_s = s_from_ns(event.t_ns - self._began_ns)
        self._draw(
            tqdm.format_meter(done, total or 0, elapsed_s, ncols=_COLUMNS, prefix=event.stage or "", unit="step")
        )

    def _draw(self, line: str) -> None:
        show = self._handle.update if self._is_shown else self._handle.display
        show({"text/plain": line}, raw=True)
        self._is_shown = True


def progress_listener() -> Callable[[AnyEvent], None]:
    """The line of progress that suits where this process talks to its person."""
    return CellProgress() if is_in_a_kernel() else TerminalProgress()


def is_in_a_kernel() -> bool:
    """Whether this process is a notebook's kernel, whose output is a cell's."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
