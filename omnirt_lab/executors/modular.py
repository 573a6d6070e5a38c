"""The executor by blocks: diffusers' ModularPipeline on the weights that `legacy_call` would use, the probe around it.

It is asked for by name and never stands in for another: a family's blocks may have other defaults than its pipeline.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from diffusers import DiffusionPipeline
from msgspec.structs import replace

from omnirt_lab.executors.legacy_call import LegacyCall
from omnirt_lab.executors.observed import own_class
from omnirt_lab.executors.resources import RESOURCES, Resources
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.modular_assembly import BlockClock, assemble, describe_guidance, guide, reset_caches
from omnirt_lab.pipelines.modular_blocks import SCALE, Workflow, find_workflow
from omnirt_lab.pipelines.modular_plan import check_guidance, plan_modular
from omnirt_lab.records import GenerateRequest, JobFinishedData, Resolved, WarningData

if TYPE_CHECKING:
    from diffusers import ModularPipeline

    from omnirt_lab.executors.run_writer import RunWriter
    from omnirt_lab.pipelines.sites import AnyPipeline

_OUTPUTS: Final = {"images": "images", "videos": "frames", "audios": "audios"}
"""What blocks call their result → what classic pipelines call it."""


class ModularExecutor:
    """Runs requests one after the other by the blocks of their model's family."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def check(self, request: GenerateRequest) -> None:
        """Check the request against the model's files and what the blocks take; no weights are loaded."""
        plan_modular(get_model(request.model), request)

    def begin(self, request: GenerateRequest, writer: RunWriter) -> ModularCall:
        """Take the job."""
        return ModularCall(request, writer, self._resources)


class ModularCall(LegacyCall):
    """One job: a modular pipeline is made for it on components that are in memory, and is gone with it."""

    def __init__(self, request: GenerateRequest, writer: RunWriter, resources: Resources) -> None:
        super().__init__(request, writer, resources)
        self._clock = BlockClock(writer.now_ns)
        self._is_unguided = False
        self._held: AnyPipeline | None = None

    def run(self) -> JobFinishedData:
        """Load, call, export."""
        return replace(super().run(), blocks=tuple(self._clock.timings))

    def _find_pipeline(self, stack: ExitStack) -> ModularPipeline:
        held = self._held = self._hold(stack)
        stack.callback(self._let_go)
        workflow = _workflow_on(held, self._request)
        self._is_unguided = not check_guidance(workflow, self._request)
        pipeline = assemble(workflow, held)
        guide(pipeline, self._request.config)
        return pipeline

    def _hold(self, stack: ExitStack) -> AnyPipeline:
        """The pipeline whose components are run: the one that `legacy_call` would call, or a modular folder's."""
        source = get_model(self._request.model)
        if source.blocks_class is None:
            return super()._find_pipeline(stack)
        return self._resident(stack, source)

    def _let_go(self) -> None:
        """Keep nothing of the pipeline: another run may need its memory while this one stores its pictures."""
        self._held = None

    def _adaptable(self, pipeline: AnyPipeline) -> AnyPipeline:  # noqa: ARG002  # the base class's
        assert self._held is not None, "loading comes first"
        return self._held

    def _resolved(self, pipeline: ModularPipeline, arguments: dict[str, Any]) -> Resolved:
        resolved = super()._resolved(pipeline, arguments)
        by_blocks = {**describe_guidance(pipeline), "blocks": list(pipeline._blocks.sub_blocks)}  # noqa: SLF001  # live
        if self._is_unguided:
            by_blocks[SCALE] = None
            self._warn([_UNGUIDED])
        return replace(resolved, config={**resolved.config, **by_blocks})

    def _call(self, pipeline: ModularPipeline, arguments: dict[str, Any]) -> dict[str, Any]:
        self._clock.watch(pipeline)
        taken = {parameter.name for parameter in pipeline._blocks.inputs}  # noqa: SLF001  # `blocks` is a copy
        try:
            with _unlogged():
                values = pipeline(**{name: value for name, value in arguments.items() if name in taken}).values
        finally:
            if self._held is not None:
                reset_caches(self._held)
        return {name: values[made] for made, name in _OUTPUTS.items() if values.get(made) is not None}


def _workflow_on(held: AnyPipeline, request: GenerateRequest) -> Workflow:
    if isinstance(held, DiffusionPipeline):
        return find_workflow(own_class(held).__name__, request, settings=dict(held.config))
    blocks = type(held._blocks).__name__  # noqa: SLF001  # `blocks` is a copy
    return find_workflow(type(held).__name__, request, settings=dict(held.config), blocks_class=blocks)


_UNGUIDED: Final = WarningData(
    code="guidance_without_effect",
    message="these blocks guide against a negative prompt, and none was given",
    hint="Pass negative_prompt='' for the picture that legacy_call makes.",
)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep the blocks from logging an exception with its traceback at each level that it passes: it is raised too."""
    logger, thread = logging.getLogger("diffusers.modular_pipelines.modular_pipeline"), threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno != logging.ERROR

    logger.addFilter(is_of_others)
    try:
        yield
    finally:
        logger.removeFilter(is_of_others)


EXECUTOR: Final = ModularExecutor(RESOURCES)
