"""What a request comes to with the blocks of its model's family: everything checked, nothing loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from diffusers import ModularPipeline

from omnirt_lab.errors import InvalidRequestError, NotAvailableError, UnsupportedTaskError
from omnirt_lab.pipelines.call_arguments import check_parameters
from omnirt_lab.pipelines.call_plan import CallPlan, described, merge_preset
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.loading import resolve_placement
from omnirt_lab.pipelines.modular_blocks import Workflow, block_parameters, find_workflow, require_modular
from omnirt_lab.pipelines.setup import Setup, check_setup
from omnirt_lab.records import IMAGE_TASKS, GenerateRequest, Validation

_NOT_OF_A_FOLDER: Final = ("preset", "device_map", "offload", "quantization")


def plan_modular(source: ModelSource, request: GenerateRequest) -> tuple[CallPlan, Workflow]:
    """Merge the preset, and check the request against the blocks that would run; loads no weights.

    Raises
    ------
    InvalidRequestError
        If it cannot be run as it stands.
    NotAvailableError
        If diffusers is too old, or has no blocks for the model's family.
    ModelLoadError
        If it does not have the classes that the model names.
    """
    require_modular()
    require_no_denoiser_cache(request)
    if source.blocks_class is None:
        plan = merge_preset(source, request)
        class_name = plan.pipeline_class.__name__
    else:
        check_folder(source, request)
        config, class_name = request.config, source.pipeline_class
        plan = CallPlan(request, ModularPipeline, resolve_placement(config.dtype, config.device))
    workflow = find_workflow(class_name, plan.request, settings=source.settings, blocks_class=source.blocks_class)
    check_parameters(workflow.name, block_parameters(workflow.blocks), source, plan.request)
    check_guidance(workflow, request)
    _check_count(workflow, request)
    check_setup(Setup.of(plan.request.config), plan.placement.device)
    return replace(plan, pipeline_class=workflow.pipeline_class), workflow


def foresee_modular(source: ModelSource, request: GenerateRequest) -> Validation:
    """What a run of the request by blocks would be.

    Raises
    ------
    InvalidRequestError, ModelLoadError
        As `plan_modular` does.
    """
    plan, workflow = plan_modular(source, request)
    return described(source, plan, block_parameters(workflow.blocks))


def check_folder(source: ModelSource, request: GenerateRequest) -> None:
    """Refuse what is not done with a modular folder.

    Raises
    ------
    UnsupportedTaskError
        For a task that its class is not for.
    NotAvailableError
        For settings that only a classic pipeline is loaded with.
    """
    if request.task not in source.tasks:
        raise UnsupportedTaskError(
            f"{source.name} is a {source.pipeline_class} and cannot do {request.task}",
            hint=f"It can do: {', '.join(source.tasks)}.",
        )
    _refuse(request, _NOT_OF_A_FOLDER, "a modular folder")


def require_no_denoiser_cache(request: GenerateRequest) -> None:
    """Refuse a cache inside the denoiser, which few families' blocks tell what it must know.

    Raises
    ------
    NotAvailableError
        If one is asked for.
    """
    _refuse(request, ("denoiser_cache",), "modular blocks")


def check_guidance(workflow: Workflow, request: GenerateRequest) -> bool:
    """Whether guidance has an effect on the request.

    Raises
    ------
    InvalidRequestError
        If it has none, and a scale was asked for.
    """
    if not workflow.needs_negative_prompt or request.inputs.negative_prompt is not None:
        return True
    if request.config.guidance_scale is not None:
        raise InvalidRequestError(
            f"{workflow.name} guides against a negative prompt, so guidance_scale does nothing without one",
            hint="Pass negative_prompt='' too, or leave guidance_scale out.",
        )
    return False


def _check_count(workflow: Workflow, request: GenerateRequest) -> None:
    if workflow.has_one_picture_a_call and request.task in IMAGE_TASKS and request.config.num_images > 1:
        raise InvalidRequestError(
            f"num_images is {request.config.num_images}, and {workflow.name} makes one picture a call from an image",
            hint="Make one at a time, with another seed each.",
        )


def _refuse(request: GenerateRequest, words: tuple[str, ...], what: str) -> None:
    for word in words:
        if getattr(request.config, word) is not None:
            raise NotAvailableError(
                f"{word} is not available with {what}",
                hint=f"Leave {word} out, or use execution_mode='legacy_call'.",
            )
