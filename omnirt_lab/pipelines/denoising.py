"""The denoise stage of one call, and its steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm.std import tqdm

from omnirt_lab.pipelines.patches import InstancePatch
from omnirt_lab.pipelines.stages import DENOISE, Mark, StageLog
from omnirt_lab.records import StepData


class Denoising:
    """Tells from a progress bar, a scheduler and a denoiser when denoising starts, steps and ends.

    1. The stage starts with the first of the three that is seen.
    2. Under a bar that the pipeline updates, each update ends a step: Heun's two solver calls are one step. Without
       one, each solver call ends a step.
    3. The stage ends when the outermost bar closes. Where there is no bar it ends with the latest denoiser or solver
       call before the VAE decodes or the pipeline returns.
    """

    def __init__(self, log: StageLog, *, denoiser_class: str | None, device: str) -> None:
        self._log = log
        self._denoiser_class = denoiser_class
        self._device = device
        self._bars: list[bool] = []
        """For each open bar, innermost last: whether the pipeline updates it."""
        self._index = 0
        self._total: int | None = None
        self._solver_calls = 0
        self._timestep: float | None = None
        self._step_start = self._latest = Mark(0)
        self.step_ns = 0
        """How long the latest step took."""

    @property
    def is_open(self) -> bool:
        """Whether the denoise stage is open."""
        stage = self._log.open_stage
        return stage is not None and stage.name == DENOISE

    @property
    def progress(self) -> str:
        """`step 3 of 20`, for messages."""
        return f"step {self._index}" if self._total is None else f"step {self._index} of {self._total}"

    @property
    def steps_done(self) -> int:
        """How many steps have ended."""
        return self._index

    @property
    def total(self) -> int | None:
        """How many steps the progress bars have announced."""
        return self._total

    @property
    def is_between_steps(self) -> bool:
        """Whether a step has ended and the solver has not been called for the next one."""
        return self.is_open and self._index > 0 and self._solver_calls == 0

    def restart_step(self) -> None:
        """Let the step start now: what was done since the last one is no part of it."""
        self._step_start = self._log.mark()

    def begin(self) -> None:
        """Open the stage, unless it is open or denoising is a part of another stage."""
        if self._log.open_stage is None:
            self._log.start(DENOISE, class_name=self._denoiser_class, device=self._device)
            self._step_start = self._latest = self._log.mark()

    def open_bar(self, total: int | None, *, is_updated: bool) -> None:
        """A progress bar has been made."""
        self.begin()
        self._bars.append(is_updated)
        self._step_start = self._log.mark()
        if total is not None:
            self._total = self._index + total

    def close_bar(self, error: BaseException | None) -> None:
        """A progress bar has been closed, by an exception if there is one."""
        self._bars.pop()
        if not self.is_open or self._bars:
            return
        if error is not None:
            self._log.fail(error)
            return
        if self._solver_calls:
            self.end_step()
        self._log.end()

    def denoised(self) -> None:
        """The denoiser has returned."""
        if not self._bars and self.is_open:
            self._latest = self._log.mark()

    def solved(self, timestep: object) -> None:
        """The scheduler has taken a solver step."""
        if self._solver_calls == 0:
            self._timestep = _as_float(timestep)
        self._solver_calls += 1
        if not self._bars or not self._bars[-1]:
            self.end_step()

    def end_step(self) -> None:
        """Report the step that ends now."""
        if not self.is_open:
            return
        end = self._log.mark()
        data = StepData(
            index=self._index,
            total=self._total,
            start_t_ns=self._step_start.t_ns,
            timestep=self._timestep,
            solver_calls=self._solver_calls,
        )
        self._log.step(data, self._step_start, end)
        self.step_ns = end.t_ns - self._step_start.t_ns
        self._index += 1
        self._solver_calls, self._timestep = 0, None
        self._step_start = self._latest = end

    def end_without_bar(self) -> None:
        """The pipeline has gone on to something else, and no bar has told so."""
        if self.is_open and not self._bars:
            self._log.end(self._latest)


class WatchedTicks:
    """What a bar iterates over; tells when the loop has run to its end, or has been left."""

    def __init__(self, ticks: Any, close: Callable[[], None]) -> None:
        self._ticks = ticks
        self._close = close

    def __len__(self) -> int:
        return len(self._ticks)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._ticks
        finally:
            self._close()


class WatchedBar:
    """A progress bar whose updates and close are told to the denoising; the bar itself is the pipeline's own."""

    def __init__(self, bar: tqdm[Any], denoising: Denoising) -> None:
        self._denoising = denoising
        self._inner_update, self._inner_close = bar.update, bar.close
        self._patches = [InstancePatch(bar, "update", self._update), InstancePatch(bar, "close", self._close)]
        if bar.iterable is not None:
            self._patches.append(InstancePatch(bar, "iterable", WatchedTicks(bar.iterable, self._leave)))
        self._outer_error = sys.exc_info()[1]
        self._is_open = True
        denoising.open_bar(None if bar.total is None else int(bar.total), is_updated=bar.iterable is None)
        for patch in self._patches:
            patch.install()

    def release(self) -> None:
        """Leave the bar as it was; what it does from now on is told to nobody."""
        self._is_open = False
        for patch in self._patches:
            patch.remove()

    def _update(self, *args: Any, **kwargs: Any) -> Any:
        shown = self._inner_update(*args, **kwargs)
        self._denoising.end_step()
        return shown

    def _close(self) -> None:
        self._leave()
        self._inner_close()

    def _leave(self) -> None:
        if not self._is_open:
            return
        error = sys.exc_info()[1]  # a `with` statement closes the bar while the exception passes
        if error is self._outer_error or isinstance(error, GeneratorExit):  # the latter is a loop's `break`
            error = None
        self.release()
        self._denoising.close_bar(error)


def _as_float(timestep: object) -> float | None:
    """The timestep as a number; None on an accelerator, where reading it would stall the queue."""
    if isinstance(timestep, torch.Tensor):
        return float(timestep) if timestep.is_cpu and timestep.numel() == 1 else None
    return float(timestep) if isinstance(timestep, (int, float)) else None
