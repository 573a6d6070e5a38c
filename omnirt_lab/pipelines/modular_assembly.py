"""Modular pipelines on weights that are in memory: made for one call, guided as asked, timed block by block."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from diffusers import CacheMixin, DiffusionPipeline, ModularPipeline
from diffusers.guiders.guider_utils import BaseGuidance

from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.pipelines.modular_blocks import SCALE, SECOND_SCALE, Workflow
from omnirt_lab.pipelines.resolution import to_json
from omnirt_lab.pipelines.sites import AnyPipeline
from omnirt_lab.records import BlockTiming, Config, Json

_SCALES: Final = (SCALE, SECOND_SCALE)

_OFF: Final = 1.0
"""Guiders with this scale are off; classic pipelines are with any smaller one, too, which guiders would obey."""


def assemble(workflow: Workflow, held: AnyPipeline) -> ModularPipeline:
    """Build the workflow's pipeline on the components of one that is in memory; nothing is copied."""
    with quiet_libraries():  # guiders call themselves experimental each time
        pipeline = workflow.pipeline_class(blocks=workflow.blocks)
        wanted = {*pipeline.pretrained_component_names, *(spec.name for spec in workflow.blocks.expected_configs)}
        components = {name: part for name, part in held.components.items() if name in wanted}
        settings = {name: value for name, value in held.config.items() if name in wanted and name not in components}
        pipeline.update_components(**components, **settings)
    return pipeline


def guide(pipeline: ModularPipeline, config: Config) -> None:
    """Give the pipeline guiders with the scales that are asked for.

    `guidance_scale` counts for all guiders, but for a second one that has a `guidance_scale_2`.
    """
    first, second = config.guidance_scale, config.options.get(SECOND_SCALE)
    for index, (name, guider) in enumerate(find_guiders(pipeline).items()):
        scale = second if index == 1 and isinstance(second, int | float) else first
        if scale is not None and SCALE in guider.config:
            with quiet_libraries():
                pipeline.update_components(**{name: guider.new(**{SCALE: max(scale, _OFF)})})


def find_guiders(pipeline: ModularPipeline) -> dict[str, BaseGuidance]:
    """The components that turn several predictions into one."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, BaseGuidance)}


def describe_guidance(pipeline: ModularPipeline) -> dict[str, Json]:
    """Each guider's class and settings, and the scales under the words of a request."""
    guiders = find_guiders(pipeline)
    scales = [guider.config[SCALE] for guider in guiders.values() if SCALE in guider.config]
    facts = {name: {"_class_name": type(guider).__name__, **_public(guider.config)} for name, guider in guiders.items()}
    return {name: to_json(value) for name, value in (facts | dict(zip(_SCALES, scales, strict=False))).items()}


def reset_caches(pipeline: AnyPipeline) -> None:
    """Let denoiser caches forget the call that has ended; modular pipelines, unlike classic ones, do not do so."""
    if isinstance(pipeline, DiffusionPipeline):
        pipeline.maybe_free_model_hooks()
        return
    for part in pipeline.components.values():
        if isinstance(part, CacheMixin):
            part._reset_stateful_cache()  # noqa: SLF001  # has no public name


class BlockClock:
    """Times the blocks of one call."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.timings: list[BlockTiming] = []
        """Of the blocks that have ended, in order."""

    def watch(self, pipeline: ModularPipeline) -> None:
        """Time every block of the pipeline from now on, which must be nobody else's.

        A block is called by its class, so each gets a subclass of its own that looks like the original.
        """
        for name, block in pipeline._blocks.sub_blocks.items():  # noqa: SLF001  # `blocks` is a copy
            original = type(block)
            names = {"__module__": original.__module__, "__qualname__": original.__qualname__}
            block.__class__ = types.new_class(
                original.__name__, (original,), exec_body=_body(names | {"__call__": self._timed(name, original)})
            )

    def _timed(self, name: str, original: type[Any]) -> Callable[..., Any]:
        def call(block: Any, *args: Any, **kwargs: Any) -> Any:
            start_ns = self._now_ns()
            answer = original.__call__(block, *args, **kwargs)
            self.timings.append(
                BlockTiming(name=name, class_name=original.__name__, start_t_ns=start_ns, end_t_ns=self._now_ns())
            )
            return answer

        return call


def _body(names: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda namespace: namespace.update(names)


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if not name.startswith("_")}
