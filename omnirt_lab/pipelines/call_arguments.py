"""From a request to the arguments of a pipeline's own call; nothing that was asked for is dropped silently."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModularPipeline
from PIL.Image import Image

from omnirt_lab.errors import InvalidRequestError, UnknownOptionError, UnsupportedTaskError
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.loading import get_pipeline_class, resolve_placement
from omnirt_lab.pipelines.model_index import DENOISERS, latent_shape
from omnirt_lab.pipelines.modular_blocks import block_parameters
from omnirt_lab.pipelines.schedulers import check_scheduler
from omnirt_lab.pipelines.sites import AnyPipeline
from omnirt_lab.pipelines.video import require_video
from omnirt_lab.records import IMAGE_TASKS, VIDEO_TASKS, Config, GenerateRequest, Json, Task

_COUNT_NAMES: Final = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt")
_FRAMES_NAMES: Final = ("num_frames", "video_length")
_RATE_NAMES: Final = ("frame_rate", "fps")
_LENGTH_NAMES: Final = ("audio_length_in_s", "audio_end_in_s", "audio_duration", "audio_duration_s")
"""What pipelines call the same thing."""

NEEDS_TEXT: Final[frozenset[Task]] = frozenset({"text2image", "text2video", "text2audio"})

OWN_WORDS: Final = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "image": "image",
    "mask_image": "mask",
    "strength": "strength",
    "generator": "seed",
    **dict.fromkeys(_COUNT_NAMES, "num_images"),
    **dict.fromkeys(_FRAMES_NAMES, "num_frames"),
    **dict.fromkeys(_RATE_NAMES, "fps"),
    **dict.fromkeys(_LENGTH_NAMES, "audio_length_s"),
}
"""The pipeline's name of what a request has a word of its own for."""

DEFAULT_FPS: Final = 16
_NATIVE_FPS: Final = {"Wan": 16, "CogVideoX": 8, "AnimateDiff": 8, "HunyuanVideo": 24, "Mochi": 30}
"""By the models' own cards; the first word of the pipeline's class name."""

_LAB_DECIDES: Final = ("output_type", "return_dict", "callback_on_step_end", "callback", "callback_steps")


def call_arguments(
    pipeline: AnyPipeline,
    request: GenerateRequest,
    *,
    generators: Sequence[torch.Generator],
    image: Image | None = None,
    mask: Image | None = None,
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The keyword arguments that make this pipeline do what the request asks for.

    `image` and `mask` are what the request's inputs name, in the `size` that the pipeline is to work in.

    Raises
    ------
    InvalidRequestError
        If the request asks for something that the pipeline's call does not take.
    """
    accepted = parameters_of(pipeline)
    arguments = named_arguments(type(pipeline).__name__, accepted, request)
    _check_sizes(request.config, size_multiple_px(pipeline))
    _check_frames(request.config, pipeline)
    if size is not None and "width" in accepted and "height" in accepted:
        arguments["width"], arguments["height"] = size
    if "generator" in accepted and generators:
        arguments["generator"] = generators[0] if len(generators) == 1 else list(generators)
    if image is not None:
        arguments["image"] = image
    if mask is not None:
        arguments["mask_image"] = mask
    if "output_type" in accepted and request.task != "text2audio":
        arguments["output_type"] = "pil"
    return arguments


def check_request(source: ModelSource, request: GenerateRequest) -> None:
    """Check a request against the model's pipeline class, its sizes and this machine; loads no weights.

    Raises
    ------
    InvalidRequestError
        If it cannot be run as it stands.
    ModelLoadError
        If the installed diffusers does not have the class.
    """
    pipeline_class = get_pipeline_class(source, request.task)
    check_parameters(pipeline_class.__name__, call_parameters(pipeline_class), source, request)


def check_parameters(
    name: str, accepted: Mapping[str, inspect.Parameter], source: ModelSource, request: GenerateRequest
) -> None:
    """Check a request against what the pipeline of this name accepts, the model's sizes and this machine.

    Raises
    ------
    InvalidRequestError
        If it cannot be run as it stands.
    """
    if request.task in VIDEO_TASKS:
        require_video()
    named_arguments(name, accepted, request)
    _check_sizes(request.config, source.size_multiple_px)
    resolve_placement(request.config.dtype, request.config.device)
    if request.config.scheduler is not None:
        check_scheduler(source, request.config.scheduler)


def seeded_generators(seed: int, count: int) -> tuple[torch.Generator, ...]:
    """One CPU generator a picture, so that picture i of a run is the one that seed + i alone gives, on any device."""
    return tuple(torch.Generator("cpu").manual_seed(seed + i) for i in range(count))


def named_arguments(
    pipeline: str, accepted: Mapping[str, inspect.Parameter], request: GenerateRequest
) -> dict[str, Any]:
    """What the request sets, by the names that a pipeline accepts; its own name is for messages.

    Raises
    ------
    InvalidRequestError
        Where the pipeline has none for it, and where an input is missing or has no meaning.
    """
    _check_inputs(pipeline, accepted, request)
    wanted = _wanted(accepted, request)
    for name in (*wanted, *(() if request.config.seed is None else ("generator",))):
        if name not in accepted:
            raise UnknownOptionError(
                f"{pipeline} takes no {OWN_WORDS[name]}",
                hint=f"Leave {OWN_WORDS[name]} out, or use a model that takes it.",
            )
    if request.config.fps is not None and request.task not in VIDEO_TASKS:
        raise UnknownOptionError(f"{request.task} has no fps", hint="Leave fps out: it is for videos.")
    _check_negative_prompt(accepted, request)
    for name in request.config.options:
        _check_option(pipeline, accepted, name)
    return wanted | request.config.options


def _wanted(accepted: Mapping[str, inspect.Parameter], request: GenerateRequest) -> dict[str, Any]:
    config, inputs = request.config, request.inputs
    count_name, frames_name, length_name = (
        next((name for name in names if name in accepted), names[0])
        for names in (_COUNT_NAMES, _FRAMES_NAMES, _LENGTH_NAMES)
    )
    values = {
        "prompt": inputs.prompt or None,
        "negative_prompt": inputs.negative_prompt,
        "num_inference_steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "width": config.width,
        "height": config.height,
        count_name: config.num_images if config.num_images > 1 else None,
        "strength": config.strength,
        frames_name: config.num_frames,
        length_name: config.audio_length_s,
        **{name: config.fps for name in _RATE_NAMES if name in accepted},
    }
    if request.task in IMAGE_TASKS:
        if "prompt" in accepted:
            values["prompt"] = inputs.prompt
        if "width" not in accepted:  # such a pipeline works in the size of its picture, which is scaled beforehand
            values["width"] = values["height"] = None
    return {name: value for name, value in values.items() if value is not None}


def _check_inputs(pipeline: str, accepted: Mapping[str, inspect.Parameter], request: GenerateRequest) -> None:
    task, inputs = request.task, request.inputs
    if task in NEEDS_TEXT and not inputs.prompt.strip():
        raise InvalidRequestError(f"{task} needs a prompt, and it is empty", hint="Write what the result should show.")
    if task in NEEDS_TEXT and "prompt" not in accepted:
        raise UnsupportedTaskError(
            f"{pipeline} takes no prompt, so it cannot do {task}", hint="Use a text-to-image model."
        )
    for word, name, value in (("image", "image", inputs.image), ("mask", "mask_image", inputs.mask)):
        is_needed = task in IMAGE_TASKS if word == "image" else task == "inpaint"
        if is_needed and value is None:
            raise InvalidRequestError(f"{task} needs an input {word}, and none was given", hint=f"Pass {word}=….")
        if value is not None and name not in accepted:
            raise UnsupportedTaskError(
                f"{task} with {pipeline} takes no input {word}",
                hint="Use task='image2image' to start from a picture, task='inpaint' to change a part of it.",
            )


def ignores_negative_prompt(accepted: Mapping[str, inspect.Parameter], options: Mapping[str, Json]) -> bool:
    """Whether it has no effect: Flux and its like take it and ignore it unless `true_cfg_scale` is above 1."""
    if "true_cfg_scale" not in accepted:
        return False
    scale = options.get("true_cfg_scale", accepted["true_cfg_scale"].default)
    return isinstance(scale, int | float) and scale <= 1


def _check_negative_prompt(accepted: Mapping[str, inspect.Parameter], request: GenerateRequest) -> None:
    if request.inputs.negative_prompt is not None and ignores_negative_prompt(accepted, request.config.options):
        scale = request.config.options.get("true_cfg_scale", accepted["true_cfg_scale"].default)
        raise InvalidRequestError(
            f"this pipeline ignores the negative prompt while true_cfg_scale is {scale}",
            hint="Pass true_cfg_scale=4 too (it doubles the time), or leave the negative prompt out.",
        )


def _check_option(pipeline: str, accepted: Mapping[str, inspect.Parameter], name: str) -> None:
    if name in OWN_WORDS:
        raise UnknownOptionError(f"option {name!r} has a word of its own", hint=f"Use {OWN_WORDS[name]}=….")
    if name in _LAB_DECIDES:
        raise UnknownOptionError(
            f"option {name!r} is set by the lab", hint="Call the pipeline yourself through lab.observe(pipe)."
        )
    if name not in accepted:
        known = sorted({*accepted} - {*OWN_WORDS, *_LAB_DECIDES} | {*OWN_WORDS.values()})
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UnknownOptionError(f"{pipeline} has no option {name!r}", hint=f"The nearest is {nearest!r}.")


def parameters_of(pipeline: AnyPipeline) -> dict[str, inspect.Parameter]:
    """What a call of this pipeline takes by name, with the defaults: its class's, or that of its blocks."""
    if isinstance(pipeline, ModularPipeline):
        return block_parameters(pipeline._blocks)  # noqa: SLF001  # `blocks` is a copy
    return call_parameters(type(pipeline))


def call_parameters(pipeline_class: type[DiffusionPipeline]) -> dict[str, inspect.Parameter]:
    """The named parameters of the class's call. `**kwargs` is left out: what goes in there is ignored."""
    return dict(_named_parameters(inspect.unwrap(pipeline_class.__call__)))


@lru_cache(maxsize=64)
def _named_parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Read once a function, as a signature takes longer than all else that is looked up for a call."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return MappingProxyType({p.name: p for p in parameters if p.kind in named and p.name != "self"})


def _check_sizes(config: Config, multiple_px: int) -> None:
    """Some of diffusers' pipelines, Stable Diffusion's among them, ignore a side that comes without the other."""
    if (config.width is None) != (config.height is None):
        given, missing = ("width", "height") if config.height is None else ("height", "width")
        raise InvalidRequestError(f"{given} is given without {missing}", hint="Give both, or neither for the default.")
    for name, side_px in (("width", config.width), ("height", config.height)):
        if side_px is not None and side_px % multiple_px:
            below = side_px // multiple_px * multiple_px
            raise InvalidRequestError(
                f"{name} is {side_px}, and this model needs multiples of {multiple_px}",
                hint=f"The nearest are {below or multiple_px} and {below + multiple_px}.",
            )


def _check_frames(config: Config, pipeline: AnyPipeline) -> None:
    """Diffusers' pipelines make another number of frames than what their VAE cannot hold."""
    ratio = getattr(pipeline, "vae_scale_factor_temporal", None)
    if config.num_frames is None or not isinstance(ratio, int) or (config.num_frames - 1) % ratio == 0:
        return
    below = (config.num_frames - 1) // ratio * ratio + 1
    raise InvalidRequestError(
        f"num_frames is {config.num_frames}, and this model makes 1 more than a multiple of {ratio}",
        hint=f"The nearest are {below} and {below + ratio}.",
    )


def frame_rate(pipeline: AnyPipeline, request: GenerateRequest) -> float:
    """Frames a second for the pipeline's videos: the request's, the call's default, or what the model was made for."""
    if request.config.fps is not None:
        return request.config.fps
    accepted = parameters_of(pipeline)
    defaults = [accepted[name].default for name in _RATE_NAMES if name in accepted]
    own = next((rate for rate in defaults if isinstance(rate, int | float) and rate > 0), None)
    name = type(pipeline).__name__
    return own or next((rate for word, rate in _NATIVE_FPS.items() if name.startswith(word)), DEFAULT_FPS)


def find_sample_rate_hz(pipeline: AnyPipeline) -> int | None:
    """Samples a second of the pipeline's sounds, by the config of its vocoder or VAE; None where they do not say."""
    for name in ("vocoder", "vae"):
        part = pipeline.components.get(name)
        rate = None if part is None else getattr(part.config, "sampling_rate", None)
        if isinstance(rate, int):
            return rate
    return None


def size_multiple_px(pipeline: AnyPipeline) -> int:
    """Width and height of the pipeline's pictures must be multiples of this."""
    configs = {name: dict(part.config) for name, part in pipeline.components.items() if isinstance(part, ConfigMixin)}
    denoiser = next((configs[name] for name in DENOISERS if name in configs), {})
    return latent_shape(denoiser, configs.get("vae", {})).size_multiple_px
