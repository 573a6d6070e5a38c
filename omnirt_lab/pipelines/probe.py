"""The probe: watches one call of any pipeline, whose output stays bit-identical, and leaves the pipeline as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from diffusers import DiffusionPipeline

from omnirt_lab.pipelines.device_clock import clock_for
from omnirt_lab.pipelines.interception import Interception
from omnirt_lab.pipelines.memory import MemoryMeter, further_meters, meter_for
from omnirt_lab.pipelines.occupancy import occupied
from omnirt_lab.pipelines.preview_decoding import find_decoder
from omnirt_lab.pipelines.previews import Previews, PreviewViewer
from omnirt_lab.pipelines.profiler import PROFILED, is_profiled
from omnirt_lab.pipelines.sink import CallInterceptor, Sink
from omnirt_lab.pipelines.sites import AnyPipeline, Site, execution_device, find_schedulers, find_sites
from omnirt_lab.pipelines.stages import StageLog
from omnirt_lab.pipelines.watched_call import WatchedCall
from omnirt_lab.records import Clock, DeviceSpan, LatentStats, ProbeCost


@dataclass
class Reading:
    """What was learnt of one call beside its events; filled when the `watch` block has ended."""

    components_called: tuple[str, ...] = ()
    """Names of the components that the pipeline called, in the order of their first calls."""

    latent_stats: LatentStats | None = None
    """None when no scheduler took a step, or the call raised."""

    row_stats: tuple[LatentStats, ...] = ()
    """Of each row's own latents, where the call was watched with more than one; empty where `latent_stats` is None."""

    device_spans: tuple[DeviceSpan, ...] = ()
    """Empty without a device clock, and when the call raised."""

    cost: ProbeCost = field(default_factory=ProbeCost)


class Probe:
    """Watches calls of one pipeline, one at a time.

    Stages follow each other and cover the call: one for each call of a component, named like the component;
    `vae_encode` and `vae_decode`; `denoise` from the progress bar's opening to its close, whichever components it
    calls; and the gaps between these as `prepare` and `postprocess`. Gaps shorter than 0.5 ms are left out while they
    are no more than 1 % of the call.

    Parameters
    ----------
    pipeline
        Any pipeline. Its components may be replaced between calls.
    interceptors
        Stand between the pipeline and the component calls that they want, the first one innermost.
    meter
        None measures the device that the pipeline runs on, and the other GPUs that its components are on.
    others
        Meters of further devices, of the same kind as `meter`; with that alone.
    """

    def __init__(
        self,
        pipeline: AnyPipeline,
        *,
        interceptors: Sequence[CallInterceptor] = (),
        meter: MemoryMeter | None = None,
        others: Sequence[MemoryMeter] = (),
    ) -> None:
        self._pipeline = pipeline
        self._interceptors = tuple(interceptors)
        self._meter = meter
        self._others = tuple(others)

    @contextmanager
    def watch(
        self,
        sink: Sink,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        viewer: PreviewViewer | None = None,
        rows: int = 1,
    ) -> Iterator[Reading]:
        """Watch exactly one call of the pipeline, made in the block.

        `should_stop` is asked where a stage starts and in each step. After an exception, an interrupt included,
        the pipeline's hooks are freed (`maybe_free_model_hooks`): without that some caches change the next picture.
        `viewer` gets previews while it wants them, where the pipeline is one whose prediction and decoding are known.
        `rows` requests are made by the call, so that its latents are as many equal parts.

        Raises
        ------
        PipelineBusyError
            If a call of this pipeline, or of one that shares a part with it, is being watched.
        JobCancelledError
            Inside the pipeline's call, once `should_stop` has said so.
        """
        entered_ns = sink.now_ns()
        sites, schedulers = find_sites(vars(self._pipeline)), find_schedulers(vars(self._pipeline))
        with occupied([self._pipeline, *(site.module for site in sites), *schedulers]):
            call = self._new_call(sink, sites, should_stop, viewer)
            interception = Interception(call, sink, self._interceptors)
            reading = Reading()
            if is_profiled():
                sink.emit(PROFILED)
            try:
                interception.install(self._pipeline, sites, schedulers)
                call.begin(entered_ns)
                yield reading
            except BaseException as error:  # an interrupt from the notebook ends a call too
                interception.remove()
                call.end(error)
                self._free_hooks()
                raise
            else:
                interception.remove()
                call.end(None)
            finally:
                _fill(reading, call, rows)

    def _new_call(
        self, sink: Sink, sites: Sequence[Site], should_stop: Callable[[], bool], viewer: PreviewViewer | None
    ) -> WatchedCall:
        device = execution_device(self._pipeline)
        meter = self._meter or meter_for(device)
        others = self._others if self._meter is not None else further_meters(meter, (site.device for site in sites))
        log = StageLog(sink, meter, clock_for(device, sink.now_ns), others)
        denoiser_class = next((site.class_name for site in sites if site.is_denoiser), None)
        previews = None
        if viewer is not None:
            previews = Previews(viewer, sink, partial(find_decoder, self._pipeline, device))
        return WatchedCall(
            sink,
            log,
            meter,
            denoiser_class=denoiser_class,
            should_stop=should_stop,
            previews=previews,
            others=others,
        )

    def _free_hooks(self) -> None:
        if isinstance(self._pipeline, DiffusionPipeline):
            self._pipeline.maybe_free_model_hooks()


def _fill(reading: Reading, call: WatchedCall, rows: int) -> None:
    reading.components_called = call.components_called
    reading.latent_stats = call.latent_stats
    reading.row_stats = call.row_stats(rows) if rows > 1 else ()
    reading.device_spans = call.device_spans
    clock: Clock = "device" if call.device_spans else "wall"
    reading.cost = ProbeCost(overhead_ns=call.overhead_ns, clock=clock)
