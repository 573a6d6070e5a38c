"""The keyword options of `generate` and `submit`: one list for type checkers, completion and help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypedDict, TypeVar

from omnirt_lab.engine import Picture
from omnirt_lab.lab.signatures import spell_out
from omnirt_lab.records import Adapter, DenoiserCache, ExecutionMode, Json, Offload, Preset, Quantization, Task

Params = ParamSpec("Params")
Answer = TypeVar("Answer")


_OPTIONS_HELP: Final = """
model
    A built-in name (`tiny-shapes`, the default), a local folder, or a hub id.
task
    One that the model serves; see `models()`. By default `text2image`; `image2image` with an `image`, and `inpaint`
    with a `mask` too.
steps
    Denoising steps, 1 to 10,000.
seed
    Seed of the first picture, 0 to 2^63 - 1; picture i has seed + i. Left out, one is drawn and recorded.
guidance_scale
    Weight of classifier-free guidance.
negative_prompt
    What the picture must not show.
num_images
    Pictures (videos, sounds) of this prompt, 1 to 64.
width, height
    Pixels, multiples of 8; an input picture is scaled to them.
image, mask
    The picture to start from, and what of it may change (white): a path, a PIL image, an array, the bytes of a file, or
    the sha256 of a stored picture.
strength
    How far an `image2image` or `inpaint` result may go from the picture, 0 to 1.
num_frames, fps
    Frames of a video, and how many of them make a second.
audio_length_s
    Seconds of sound.
scheduler
    A short name (`ddim`, `euler`, `dpm++`, …) or a diffusers class name.
dtype, device
    In what precision and where the model is loaded: `float32`, `float16`, `bfloat16`; `cpu`, `cuda:0`, `mps`.
preset
    `fast`, `balanced`, `quality` or `low-vram`: settings over the model's defaults and under those that you set.
offload, device_map
    Keep weights in the host's memory until they are needed: `model`, `sequential`, `group`; or spread them over all
    GPUs: `balanced`.
vae_slicing, vae_tiling
    Decode picture by picture, and large pictures tile by tile, to save memory.
channels_last, compile
    Hold convolutions' weights with the channels last; compile the denoiser (True, or a backend of `torch.compile`).
quantization
    Hold the denoiser's weights in `int8`, `int4`, `float8` (torchao) or `nf4` (bitsandbytes).
denoiser_cache, denoiser_cache_options
    Use what earlier steps have computed: `first_block`, `taylorseer`, `magcache`, `pab`; and the cache's own arguments.
result_cache
    True: answer from the history if the same run was made before; needs a seed. False: make it in any case.
adapters
    LoRAs to lay over the model for this run.
execution_mode, backend
    How and where it is executed: `legacy_call` (the default) in this process, `modular` likewise, by the blocks that
    diffusers has for the model's family, `subprocess` in a child process, which a crash, a kill or a want of memory
    leaves this one out of, `ray` on the Ray cluster of `configure(ray=...)`, several at a time.
timeout_s
    Seconds from the run's start after which its process is killed; with `subprocess` and `ray` alone.
options, **pipeline_options
    Further arguments of the pipeline's own call, by its own names.
""".strip()


class RequestOptions(TypedDict, total=False):
    """What a request may set. What is left out has the model's own default, and the report shows which."""

    model: str
    task: Task
    steps: int
    seed: int
    guidance_scale: float
    negative_prompt: str
    num_images: int
    width: int
    height: int
    image: Picture
    mask: Picture
    strength: float
    num_frames: int
    fps: float
    audio_length_s: float
    scheduler: str
    dtype: str
    device: str
    preset: Preset
    device_map: str
    offload: Offload
    vae_slicing: bool
    vae_tiling: bool
    channels_last: bool
    compile: bool | str
    quantization: Quantization
    denoiser_cache: DenoiserCache
    denoiser_cache_options: dict[str, Json]
    adapters: Sequence[Adapter]
    result_cache: bool
    execution_mode: ExecutionMode
    timeout_s: float
    backend: str
    options: dict[str, Json]


def with_request_options(function: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """Spell `**options` out in the signature and the docstring that `help` and completion read."""
    return spell_out(function, RequestOptions, _OPTIONS_HELP, rest="pipeline_options")
