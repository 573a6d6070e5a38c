"""Puts a watched call in the place of a pipeline's own, and takes it away again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from omnirt_lab.engine.engine import Attend, Engine
from omnirt_lab.errors import LabError
from omnirt_lab.pipelines.task_classes import own_task
from omnirt_lab.records import MAX_PROMPT_CHARS, Config, GenerateRequest, Inputs, Task

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from omnirt_lab.executors.observed import OwnCall
    from omnirt_lab.journal import JobWriter

PipelineT = TypeVar("PipelineT", bound="DiffusionPipeline")

_log: Final = logging.getLogger(__name__)


def observe(
    get_engine: Callable[[], Engine],
    pipeline: PipelineT,
    *,
    name: str | None,
    keep_pictures: bool,
    cache_text_embeddings: bool,
    attend: Attend,
) -> PipelineT:
    """Make every later call of `pipeline` a job of the engine that there is then; see `Lab.observe`."""
    from omnirt_lab.executors import observed  # loads torch

    observed.require_pipeline(pipeline)
    get_engine()  # a history that cannot be kept is said now, not by each call
    watch = functools.partial(
        _watch,
        get_engine=get_engine,
        name=name or type(pipeline).__name__,
        keep_pictures=keep_pictures,
        cache_text_embeddings=cache_text_embeddings,
        attend=attend,
    )
    observed.attach(pipeline, watch)
    return pipeline


def unobserve(pipeline: PipelineT) -> PipelineT:
    """Give the pipeline its own call back."""
    from omnirt_lab.executors import observed  # loads torch

    observed.detach(pipeline)
    return pipeline


def _watch(
    call: OwnCall,
    *,
    get_engine: Callable[[], Engine],
    name: str,
    keep_pictures: bool,
    cache_text_embeddings: bool,
    attend: Attend,
) -> Any:
    from omnirt_lab.executors.observed import ObservedCall, probe_for  # loads torch

    begun = _begin(call, get_engine, name)
    if begun is None:
        return call()
    engine, writer = begun
    probe = probe_for(call.pipeline, cache_text_embeddings=cache_text_embeddings)
    execution = ObservedCall(call, writer, probe, keep_pictures=keep_pictures)
    with attend(engine.journal, writer):
        engine.watch(writer, execution)
    return execution.output


def _begin(call: OwnCall, get_engine: Callable[[], Engine], name: str) -> tuple[Engine, JobWriter] | None:
    """Make the call a job; None where it cannot be one: wrong arguments, or a journal that takes none."""
    try:
        request = request_of(call.arguments(), model=name, task=own_task(type(call.pipeline).__name__))
        engine = get_engine()
        return engine, engine.start(request)
    except (TypeError, LabError) as error:
        _log.warning("a call of %s runs unobserved: %s", name, error)
        return None


def request_of(arguments: Mapping[str, Any], *, model: str, task: Task) -> GenerateRequest:
    """The request that a call amounts to, as far as a request can say it; `config_resolved` has every argument."""
    prompt = arguments.get("prompt")
    first = prompt[0] if isinstance(prompt, list) and prompt else prompt
    negative = arguments.get("negative_prompt")
    return GenerateRequest(
        task=task,
        model=model,
        inputs=Inputs(
            prompt=first[:MAX_PROMPT_CHARS] if isinstance(first, str) else "",
            negative_prompt=negative[:MAX_PROMPT_CHARS] if isinstance(negative, str) else None,
        ),
        config=_config_of(arguments),
    )


def _config_of(arguments: Mapping[str, Any]) -> Config:
    values = {
        "steps": arguments.get("num_inference_steps"),
        "guidance_scale": arguments.get("guidance_scale"),
        "width": arguments.get("width"),
        "height": arguments.get("height"),
        "num_images": arguments.get("num_images_per_prompt", 1),
        "strength": arguments.get("strength"),
        "num_frames": arguments.get("num_frames"),
    }
    try:
        return msgspec.convert({key: value for key, value in values.items() if value is not None}, Config)
    except msgspec.ValidationError:  # the pipeline has ranges of its own, and judges them itself
        return Config()
