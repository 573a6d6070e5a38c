"""One call of a pipeline, as its wrappers tell it: what begins, what ends, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic_ns
from types import MappingProxyType
from typing import Any, Final

import torch
from diffusers.utils import BaseOutput
from tqdm.std import tqdm

from omnirt_lab.errors import JobCancelledError
from omnirt_lab.pipelines.clean_prediction import SolverStep
from omnirt_lab.pipelines.denoising import Denoising, WatchedBar
from omnirt_lab.pipelines.latents import latent_stats
from omnirt_lab.pipelines.memory import MemoryMeter
from omnirt_lab.pipelines.memory_sampling import MemorySampler, emit_reading
from omnirt_lab.pipelines.previews import Previews, Progress
from omnirt_lab.pipelines.sink import Sink
from omnirt_lab.pipelines.sites import Site
from omnirt_lab.pipelines.stages import StageLog
from omnirt_lab.records import DeviceSpan, LatentStats

NO_ARGUMENTS: Final[Mapping[str, Any]] = MappingProxyType({})


class WatchedCall:
    """Turns what happens in one call into its stages, steps and memory readings.

    What it does in a step is as little code as can be: torch has cooled the processor's caches, so that a line which
    takes 0.1 µs in a loop takes some µs here.

    Parameters
    ----------
    denoiser_class
        Class of the model that each step calls, if it is known beforehand.
    should_stop
        Asked where a stage starts, and in each step: when the denoiser is called, as the sink has just taken the step
        before and can tell at no cost, or, where no denoiser is known, before the solver steps.
    previews
        Where somebody may want some. They are made between two steps, when the denoiser is called.
    others
        Meters of further devices with components, which are read before the call and at each stage's end.
    """

    def __init__(
        self,
        sink: Sink,
        log: StageLog,
        meter: MemoryMeter,
        *,
        denoiser_class: str | None,
        should_stop: Callable[[], bool],
        previews: Previews | None = None,
        others: Sequence[MemoryMeter] = (),
    ) -> None:
        self._sink = sink
        self._log = log
        self._meter = meter
        self._others = tuple(others)
        self._should_stop = should_stop
        self._previews = previews
        self._denoising = Denoising(log, denoiser_class=denoiser_class, device=meter.device)
        self._bars: list[WatchedBar] = []
        self._sampler = MemorySampler(meter, sink)
        self._components_called: dict[str, None] = {}
        self._has_stepped = False
        self._has_denoiser = False
        self._latents: torch.Tensor | None = None
        self._overhead_ns = 0
        self.latent_stats: LatentStats | None = None
        """Of what the latest step of the pipeline's own scheduler returned; known after a call that did not raise."""
        self.device_spans: tuple[DeviceSpan, ...] = ()

    @property
    def components_called(self) -> tuple[str, ...]:
        """Names, in the order of their first calls."""
        return tuple(self._components_called)

    @property
    def overhead_ns(self) -> int:
        """Time in the probe's code: wrappers outside of the original calls, begin and end, the memory thread."""
        return self._overhead_ns + self._sampler.spent_ns

    def row_stats(self, rows: int) -> tuple[LatentStats, ...]:
        """`latent_stats` of each of as many equal parts; empty where there are none, or they are no such parts."""
        if self.latent_stats is None or self._latents is None or self._latents.shape[0] % rows:
            return ()
        return tuple(map(latent_stats, self._latents.chunk(rows)))

    def begin(self, entered_ns: int) -> None:
        """Read the baseline and start the clock of the call; getting ready has taken the time since `entered_ns`."""
        for meter in (self._meter, *self._others):
            emit_reading(meter, self._sink, is_baseline=True)
        self._sampler.start()
        self._overhead_ns += self._sink.now_ns() - entered_ns
        self._log.begin_call()

    def end(self, error: BaseException | None) -> None:
        """Report what the call ended in, and stop sampling."""
        entered_ns = monotonic_ns()
        try:
            for bar in self._bars:
                bar.release()
            if error is None:
                self._denoising.end_without_bar()
            self._log.finish_call(error)
        finally:
            self._sampler.stop()
        self._overhead_ns += monotonic_ns() - entered_ns
        if error is None:
            self._summarise()

    def enter(self, site: Site, kwargs: Mapping[str, Any] = NO_ARGUMENTS) -> None:
        """A component is about to be called."""
        if site.is_denoiser:
            self._enter_denoiser(site, kwargs)
            return
        entered_ns = monotonic_ns()
        if self._log.open_stage is None or not self._has_stepped:  # else the next step asks
            self._stop_if_asked()
        self._components_called[site.component] = None
        if site.method == "decode":
            self._denoising.end_without_bar()
        if self._log.open_stage is None:
            self._log.start(site.stage, class_name=site.class_name, device=site.device)
        self._overhead_ns += monotonic_ns() - entered_ns

    def leave(self, site: Site) -> None:
        """The component has returned."""
        entered_ns = monotonic_ns()
        if site.is_denoiser:
            self._denoising.denoised()
        elif (stage := self._log.open_stage) is not None and stage.name == site.stage:
            self._log.end()
        self._overhead_ns += monotonic_ns() - entered_ns

    def before_step(self) -> None:
        """A scheduler is about to step."""
        entered_ns = monotonic_ns()
        if not self._has_denoiser:
            self._stop_if_asked()
        if self._log.open_stage is None:
            self._denoising.begin()
        self._overhead_ns += monotonic_ns() - entered_ns

    def after_step(
        self, scheduler: Any, output: object, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_own: bool
    ) -> None:
        """A scheduler has stepped: the pipeline's own one, or a copy of it.

        The first arguments of a step are named alike in all schedulers: `model_output`, `timestep`, `sample`.
        """
        entered_ns = monotonic_ns()
        self._has_stepped = True
        self._denoising.solved(args[1] if len(args) > 1 else kwargs.get("timestep"))
        if is_own:
            self._latents = _latents_of(output)
            if self._previews is not None:
                self._offer_preview(self._previews, _solver_step(scheduler, output, *args, **kwargs))
        self._overhead_ns += monotonic_ns() - entered_ns

    def bar_made(self, bar: tqdm[Any]) -> None:
        """The pipeline has made a progress bar."""
        entered_ns = monotonic_ns()
        self._bars.append(WatchedBar(bar, self._denoising))
        self._overhead_ns += monotonic_ns() - entered_ns

    def fail(self, error: BaseException) -> None:
        """A component or a scheduler has raised."""
        if self._log.open_stage is not None:
            self._log.fail(error)

    def _enter_denoiser(self, site: Site, kwargs: Mapping[str, Any]) -> None:
        if self._previews is not None:
            self._previews.await_device()  # which is no cost of the probe's
        entered_ns = monotonic_ns()
        self._stop_if_asked()
        if not self._has_denoiser or self._log.open_stage is None:
            self._has_denoiser = True
            self._denoising.begin()
        self._components_called[site.component] = None
        if self._previews is not None:
            self._show_preview(self._previews, kwargs)
        self._overhead_ns += monotonic_ns() - entered_ns

    def _offer_preview(self, previews: Previews, step: SolverStep) -> None:
        denoising = self._denoising
        previews.solved(step, Progress(denoising.steps_done, denoising.total, denoising.step_ns))

    def _show_preview(self, previews: Previews, kwargs: Mapping[str, Any]) -> None:
        previews.img_ids = kwargs.get("img_ids")
        if previews.is_pending and self._denoising.is_between_steps:
            with self._sampler.paused(), self._log.peak_left_out():
                previews.show(self._denoising.steps_done)
            self._denoising.restart_step()

    def _summarise(self) -> None:
        self.device_spans = self._log.device_spans()  # waits for the device, which is no cost of the probe's
        entered_ns = monotonic_ns()
        if self._latents is not None:
            self.latent_stats = latent_stats(self._latents)
        self._overhead_ns += monotonic_ns() - entered_ns

    def _stop_if_asked(self) -> None:
        if self._should_stop():
            msg = f"the job was cancelled at {self._denoising.progress}"
            error = JobCancelledError(msg, hint="Run it again to get its picture; nothing of this one was kept.")
            self.fail(error)
            raise error


def _solver_step(
    scheduler: Any,
    output: object,
    model_output: object = None,
    timestep: object = None,
    sample: object = None,
    *_: object,
    **options: object,
) -> SolverStep:
    return SolverStep(scheduler, output, model_output, timestep, sample, options)


def _latents_of(output: object) -> torch.Tensor | None:
    """The first value of a scheduler's output, which is the new latents in every scheduler."""
    first = output[0] if isinstance(output, (tuple, BaseOutput)) else None
    return first if isinstance(first, torch.Tensor) else None
