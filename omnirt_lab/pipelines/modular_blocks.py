"""The blocks that a modular pipeline runs for a model and a task, and what they take; loads no weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import diffusers
from diffusers import ModularPipeline
from diffusers.guiders.guider_utils import BaseGuidance
from diffusers.modular_pipelines.modular_pipeline import LoopSequentialPipelineBlocks, SequentialPipelineBlocks
from packaging.version import Version

from omnirt_lab.errors import ModelLoadError, NotAvailableError
from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.pipelines.task_classes import find_family
from omnirt_lab.records import IMAGE_TASKS, GenerateRequest, Json

OLDEST_DIFFUSERS: Final = "0.37.0"
"""The first whose blocks tell which of them would run, and which pipeline class a model's family has."""

SCALE: Final = "guidance_scale"
SECOND_SCALE: Final = "guidance_scale_2"
"""What Wan 2.2's own call names the guidance of its second transformer."""

_GUIDED_AGAINST_A_PROMPT: Final = ("StableDiffusion3ModularPipeline",)
"""Encode a negative prompt only if one is given, be it empty; without one guidance changes nothing."""

_ONE_GENERATOR_A_PICTURE: Final = ("StableDiffusionXLModularPipeline",)
"""Encode their input picture with as many generators as there are pictures, which is one."""

_USE_LEGACY: Final = "Use execution_mode='legacy_call'."


@dataclass(frozen=True)
class Workflow:
    """What runs: leaf blocks in order, each run's own, so that they may be watched."""

    pipeline_class: type[ModularPipeline]

    blocks: SequentialPipelineBlocks

    @property
    def name(self) -> str:
        """Class name of the pipeline, for messages."""
        return self.pipeline_class.__name__

    @property
    def needs_negative_prompt(self) -> bool:
        """Whether guidance has no effect unless a negative prompt is given."""
        return self.name in _GUIDED_AGAINST_A_PROMPT

    @property
    def has_one_picture_a_call(self) -> bool:
        """Whether a call that starts from a picture makes no more than one."""
        return self.name in _ONE_GENERATOR_A_PICTURE


def require_modular(diffusers_version: str = diffusers.__version__) -> None:
    """Refuse a diffusers that is too old.

    Raises
    ------
    NotAvailableError
        Saying which one is needed.
    """
    if Version(diffusers_version).release < Version(OLDEST_DIFFUSERS).release:
        raise NotAvailableError(
            f"execution_mode 'modular' needs diffusers {OLDEST_DIFFUSERS}, and {diffusers_version} is installed",
            hint=f"pip install 'diffusers>={OLDEST_DIFFUSERS}', or use execution_mode='legacy_call'.",
        )


def find_workflow(
    class_name: str, request: GenerateRequest, *, settings: Mapping[str, Json], blocks_class: str | None = None
) -> Workflow:
    """The blocks that do the request's task.

    Parameters
    ----------
    class_name
        Of the classic pipeline that does the task; with `blocks_class`, of the modular one.
    settings
        What the model says of itself beside its components: it decides between Wan 2.1 and 2.2, for one.

    Raises
    ------
    NotAvailableError
        If diffusers is too old, or has no blocks for this family.
    ModelLoadError
        If it does not have these classes.
    """
    require_modular()
    pipeline_class = _import(class_name if blocks_class else _modular_name(class_name, settings), ModularPipeline)
    blocks = _import(blocks_class or pipeline_class.default_blocks_name, SequentialPipelineBlocks)
    if not blocks.block_classes:
        raise ModelLoadError(
            f"{class_name} was saved with blocks of its own, and its index does not tell which",
            hint="Save it with the blocks that diffusers has for it.",
        )
    with quiet_libraries():
        chosen = deepcopy(blocks().get_execution_blocks(**_triggers(request)))
    for loop in find_loops(chosen):
        loop.set_progress_bar_config(disable=True)
    return Workflow(pipeline_class, chosen)


def _triggers(request: GenerateRequest) -> dict[str, Any]:
    """What will be passed: blocks that do without run only where theirs is among it."""
    names = ("prompt", *(("image",) if request.task in IMAGE_TASKS else ()))
    mask = ("mask_image",) if request.task == "inpaint" else ()
    return {**request.config.options, **dict.fromkeys((*names, *mask), True)}


def block_parameters(blocks: SequentialPipelineBlocks) -> dict[str, inspect.Parameter]:
    """What the blocks take by name, the scales of their guiders included, with the defaults."""
    scales = [scale for spec in blocks.expected_components if (scale := _find_scale(spec)) is not None]
    defaults = dict(zip((SCALE, SECOND_SCALE), scales, strict=False))
    defaults |= {parameter.name: parameter.default for parameter in blocks.inputs if parameter.name}
    return {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in defaults.items()
    }


def find_loops(blocks: Any) -> Iterator[LoopSequentialPipelineBlocks]:
    """The denoising loops among the blocks and what is in them; each makes a progress bar of its own."""
    for block in blocks.sub_blocks.values():
        if isinstance(block, LoopSequentialPipelineBlocks):
            yield block
        elif block.sub_blocks:
            yield from find_loops(block)


def _find_scale(spec: Any) -> float | None:
    """The default scale of a guider that has one; None for any other component."""
    kind = spec.type_hint
    if not (inspect.isclass(kind) and issubclass(kind, BaseGuidance)):
        return None
    scale = inspect.signature(kind).parameters.get(SCALE)
    return None if scale is None else float((spec.config or {}).get(SCALE, scale.default))


def _modular_name(class_name: str, settings: Mapping[str, Json]) -> str:
    from diffusers.modular_pipelines.modular_pipeline import MODULAR_PIPELINE_MAPPING  # not there in old versions

    family = find_family(class_name)
    if family not in MODULAR_PIPELINE_MAPPING:
        raise NotAvailableError(
            f"diffusers {diffusers.__version__} has no modular blocks for a {class_name}",
            hint=f"{_USE_LEGACY} Blocks exist for {', '.join(list(MODULAR_PIPELINE_MAPPING)[:8])} and others.",
        )
    return str(MODULAR_PIPELINE_MAPPING[family](dict(settings)))


def _import(name: str, base: type[Any]) -> Any:
    with quiet_libraries():  # importing it makes transformers say what else could be installed
        found = getattr(diffusers, name, None)
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ModelLoadError(
            f"diffusers {diffusers.__version__} has no {name}, which this model's blocks need",
            hint="Update diffusers, or use execution_mode='legacy_call'.",
        )
    return found
