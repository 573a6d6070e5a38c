"""Device times in place of wall times, where an accelerator has measured them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from omnirt_lab.records import DeviceSpan, StageTiming, StepTiming


def stages_on_device(stages: tuple[StageTiming, ...], spans: Iterable[DeviceSpan]) -> tuple[StageTiming, ...]:
    """The stages, the k-th of each name with the times of the k-th device span of that name.

    A stage that a cached value stood in for did no device work and has no span.
    """
    waiting: defaultdict[str, list[DeviceSpan]] = defaultdict(list)
    for span in spans:
        if span.step is None:
            waiting[span.stage].append(span)
    queues: dict[str, Iterator[DeviceSpan]] = {name: iter(found) for name, found in waiting.items()}
    return tuple(_on_device(stage, queues) for stage in stages)


def _on_device(stage: StageTiming, queues: dict[str, Iterator[DeviceSpan]]) -> StageTiming:
    if stage.cache_type is not None or stage.name not in queues:
        return stage
    span = next(queues[stage.name], None)
    if span is None:
        return stage
    return replace(stage, start_t_ns=span.start_t_ns, end_t_ns=span.end_t_ns, clock="device")


def steps_on_device(steps: tuple[StepTiming, ...], spans: Iterable[DeviceSpan]) -> tuple[StepTiming, ...]:
    """The steps, each with the times of the device span of its index, if there is one."""
    of_step = {span.step: span for span in spans if span.step is not None}
    return tuple(
        replace(step, start_t_ns=span.start_t_ns, end_t_ns=span.end_t_ns, clock="device")
        if (span := of_step.get(step.index)) is not None
        else step
        for step in steps
    )
