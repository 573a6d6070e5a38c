"""What is wanted: a request, its inputs, its configuration and its adapters."""

from __future__ import annotations

import math
from typing import Annotated, Final, TypeAlias

import msgspec

from omnirt_lab.records.base import (
    DenoiserCache,
    ExecutionMode,
    Json,
    Offload,
    Preset,
    Quantization,
    Record,
    Task,
    require,
)

MAX_STEPS: Final = 10_000
MAX_PROMPT_CHARS: Final = 20_000
MAX_SIDE_PX: Final = 8_192
MAX_IMAGES: Final = 64
MAX_FRAMES: Final = 10_000
MAX_FPS: Final = 240
MAX_AUDIO_S: Final = 3_600
MAX_TIMEOUT_S: Final = 7 * 24 * 3_600
MAX_SEED: Final = 2**63 - 1
"""The largest integer that SQLite, torch and a signed 64-bit wire format all hold."""

SIDE_MULTIPLE_PX: Final = 8
"""Every latent-diffusion VAE halves the picture at least three times."""


Text: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema={"maxLength": MAX_PROMPT_CHARS})]
Steps: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_STEPS})]
Guidance: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0})]
Seed: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_SEED})]
Images: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_IMAGES})]
Strength: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
Frames: TypeAlias = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_FRAMES})]
Fps: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_FPS})]
AudioSeconds: TypeAlias = Annotated[
    float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_AUDIO_S})
]
Timeout: TypeAlias = Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_S})]
SidePx: TypeAlias = Annotated[
    int,
    msgspec.Meta(
        extra_json_schema={"minimum": SIDE_MULTIPLE_PX, "maximum": MAX_SIDE_PX, "multipleOf": SIDE_MULTIPLE_PX}
    ),
]
# what `__post_init__` checks, for the schema alone: its messages say more than msgspec's own would


class Inputs(Record, frozen=True, kw_only=True):
    """What the model is conditioned on. Text is kept exactly as the user wrote it."""

    prompt: Text = ""

    negative_prompt: Text | None = None

    image: str | None = None
    """sha256 of a stored artifact: the picture to start from."""

    mask: str | None = None
    """sha256 of a stored artifact: white where the picture may change."""

    def __post_init__(self) -> None:
        for name, text in (("prompt", self.prompt), ("negative_prompt", self.negative_prompt or "")):
            require(
                len(text) <= MAX_PROMPT_CHARS,
                f"{name} has {len(text):,} characters; at most {MAX_PROMPT_CHARS:,} are taken",
            )


class Config(Record, frozen=True, kw_only=True):
    """How to run it. None means the model's own default, which the report shows in `config_resolved`."""

    steps: Steps | None = None
    """Denoising steps, 1 to 10,000."""

    guidance_scale: Guidance | None = None
    """Classifier-free guidance weight; 1 or less switches guidance off in most pipelines."""

    seed: Seed | None = None
    """Seed of the first picture, 0 to 2^63 - 1; picture i of a run has seed + i. None draws one, and records it."""

    width: SidePx | None = None
    """Pixels, a multiple of 8."""

    height: SidePx | None = None
    """Pixels, a multiple of 8."""

    num_images: Images = 1
    """Outputs of the prompt: pictures, videos or sounds."""

    strength: Strength | None = None
    """How far an image2image or inpaint result may go from the picture, 0 to 1; 1 forgets it."""

    num_frames: Frames | None = None
    """Frames of a video, 1 to 10,000."""

    fps: Fps | None = None
    """Frames a second of the stored video, up to 240; pipelines that are conditioned on it are told, too."""

    audio_length_s: AudioSeconds | None = None
    """Seconds of sound, up to an hour."""

    scheduler: str | None = None
    """A scheduler by its short name (`ddim`, `euler`, …) or diffusers class name."""

    dtype: str | None = None
    """`float32`, `float16` or `bfloat16`: what the weights are held in."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`."""

    preset: Preset | None = None
    """Settings that go together. It stands over the model's defaults and under whatever else is set here."""

    device_map: str | None = None
    """`balanced` spreads the components over all GPUs."""

    offload: Offload | None = None
    """What is on the GPU only while it is needed: whole components, single layers, or groups of them."""

    vae_slicing: bool | None = None
    """Decode one picture after the other."""

    vae_tiling: bool | None = None
    """Decode large pictures tile by tile, which changes them a little."""

    channels_last: bool | None = None
    """Hold the weights of convolutions with the channels last, which some devices read faster."""

    compile: bool | str | None = None
    """Compile the denoiser; a text names the backend of `torch.compile`, by default `inductor`."""

    quantization: Quantization | None = None
    """Hold the denoiser's weights in fewer bits: `int8`, `int4`, `float8` by torchao, `nf4` by bitsandbytes."""

    denoiser_cache: DenoiserCache | None = None
    """Let the denoiser use what it has computed in earlier steps again, which changes the picture a little."""

    denoiser_cache_options: dict[str, Json] = {}
    """Arguments of the cache's own configuration in diffusers, by its names: `threshold`, `cache_interval` …"""

    result_cache: bool | None = None
    """Answer from the history where the same run was made before; needs a seed. None: as the process is set."""

    execution_mode: ExecutionMode = "legacy_call"

    timeout_s: Timeout | None = None
    """Seconds from the run's start, up to a week, after which its process is killed; for `subprocess` and `ray`."""

    options: dict[str, Json] = {}
    """Further keyword arguments of the pipeline's own call, by its own names."""

    def __post_init__(self) -> None:
        if self.steps is not None:
            require(1 <= self.steps <= MAX_STEPS, f"steps is {self.steps:,}; it must be 1 to {MAX_STEPS:,}")
        if self.guidance_scale is not None:
            require(math.isfinite(self.guidance_scale), f"guidance_scale is {self.guidance_scale}; it must be finite")
            require(self.guidance_scale >= 0, f"guidance_scale is {self.guidance_scale}; it must not be negative")
        if self.seed is not None:
            require(0 <= self.seed <= MAX_SEED, f"seed is {self.seed}; it must be 0 to 2^63 - 1")
        require(1 <= self.num_images <= MAX_IMAGES, f"num_images is {self.num_images}; it must be 1 to {MAX_IMAGES}")
        if self.timeout_s is not None:
            require(
                0 < self.timeout_s <= MAX_TIMEOUT_S,
                f"timeout_s is {self.timeout_s}; it must be above 0 and at most {MAX_TIMEOUT_S:,}",
            )
        for name, side in (("width", self.width), ("height", self.height)):
            _require_side(name, side)
        if self.strength is not None:
            require(0 <= self.strength <= 1, f"strength is {self.strength}; it must be 0 to 1")
        if self.num_frames is not None:
            require(
                1 <= self.num_frames <= MAX_FRAMES, f"num_frames is {self.num_frames:,}; it must be 1 to {MAX_FRAMES:,}"
            )
        for name, value, most in (("fps", self.fps, MAX_FPS), ("audio_length_s", self.audio_length_s, MAX_AUDIO_S)):
            if value is not None:
                require(0 < value <= most, f"{name} is {value}; it must be above 0 and at most {most:,}")


def _require_side(name: str, side_px: int | None) -> None:
    if side_px is None:
        return
    require(
        SIDE_MULTIPLE_PX <= side_px <= MAX_SIDE_PX,
        f"{name} is {side_px}; it must be {SIDE_MULTIPLE_PX} to {MAX_SIDE_PX}",
    )
    below = side_px // SIDE_MULTIPLE_PX * SIDE_MULTIPLE_PX
    require(
        side_px == below,
        f"{name} is {side_px}; it must be a multiple of {SIDE_MULTIPLE_PX}: "
        f"the nearest are {below} and {below + SIDE_MULTIPLE_PX}",
    )


class Adapter(Record, frozen=True, kw_only=True):
    """A LoRA to lay over the model's weights."""

    source: str
    """A local folder or file, or a hub id."""

    name: str = "default"

    scale: float = 1.0

    weight_name: str | None = None
    """File name inside `source`, where it holds several."""


class GenerateRequest(Record, frozen=True, kw_only=True):
    """One validated wish; a job is its life."""

    task: Task = "text2image"

    model: str = "tiny-shapes"
    """A built-in name, a local folder, a hub id, or the name of an observed or published pipeline."""

    backend: str = "local"

    inputs: Inputs = msgspec.field(default_factory=Inputs)

    config: Config = msgspec.field(default_factory=Config)

    adapters: tuple[Adapter, ...] = ()
