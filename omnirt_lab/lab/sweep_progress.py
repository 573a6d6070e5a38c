"""Progress of many runs: one line that counts them, with the time that is left."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NoReturn, Protocol, Self

from tqdm import tqdm

from omnirt_lab.lab.progress import is_in_a_kernel
from omnirt_lab.records import AnyEvent, Step

_UPDATE_EVERY_S: Final = 0.1
_COLUMNS: Final = 72


class RunCount(Protocol):
    """Where a sweep, or an export, says how far it is."""

    def __call__(self, event: AnyEvent) -> None:
        """Hear an event of the run that goes on."""
        ...

    def advance(self) -> None:
        """Count one run more."""
        ...


class TerminalCount:
    """A tqdm bar on stderr, gone at the end."""

    def __init__(self, total: int, label: str) -> None:
        self._bar: tqdm[NoReturn] = tqdm(total=total, desc=label, unit="run", leave=False, file=sys.stderr)

    def __call__(self, event: AnyEvent) -> None:
        """Name the step."""
        if isinstance(event, Step) and event.data.total:
            self._bar.set_postfix_str(f"step {event.data.index + 1}/{event.data.total}", refresh=False)
            self._bar.update(0)

    def advance(self) -> None:
        """Move the bar."""
        self._bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class CellCount:
    """A line of text in the cell's output, updated in place; a saved notebook keeps its last state, and no widget."""

    def __init__(self, total: int, label: str) -> None:
        from IPython.display import DisplayHandle  # only in a kernel

        self._handle = DisplayHandle()
        self._total, self._done, self._label = total, 0, label
        self._began_s = time.monotonic()
        self._drawn_s: float | None = None
        self._step = ""

    def __call__(self, event: AnyEvent) -> None:
        """Name the step, unless the line was drawn just now."""
        if isinstance(event, Step) and event.data.total:
            self._step = f"step {event.data.index + 1}/{event.data.total}"
            self._draw()

    def advance(self) -> None:
        """Count one run more."""
        self._done += 1
        self._step = ""
        self._draw(now=self._done == self._total)

    def _draw(self, *, now: bool = False) -> None:
        is_first = self._drawn_s is None
        if self._drawn_s is not None and not now and time.monotonic() - self._drawn_s < _UPDATE_EVERY_S:
            return
        self._drawn_s = time.monotonic()
        elapsed_s = self._drawn_s - self._began_s
        line = tqdm.format_meter(
            self._done, self._total, elapsed_s, ncols=_COLUMNS, prefix=self._label, unit="run", postfix=self._step
        )
        show = self._handle.display if is_first else self._handle.update
        show({"text/plain": line}, raw=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn_s is not None:
            self._draw(now=True)


class Silence:
    """Says nothing."""

    def __call__(self, event: AnyEvent) -> None:
        """Hear it."""

    def advance(self) -> None:
        """Count it nowhere."""


def run_count(total: int, *, wanted: bool, label: str = "sweep") -> AbstractContextManager[RunCount]:
    """The count that suits where this process talks to its person."""
    if not wanted or total == 0:
        return nullcontext(Silence())
    return CellCount(total, label) if is_in_a_kernel() else TerminalCount(total, label)
