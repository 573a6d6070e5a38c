"""What a call needs beside the weights: a model of its largest tensors, by the configs alone.

Two moments count: a denoising step and the VAE's decoding. For each the tensors that live at once are counted in
units of the largest one, and the counts are fitted to what was measured: peaks of resident memory on a CPU in float32,
of random Stable Diffusion, SD3, Flux and Wan models of several widths; `benchmarks/memory_estimate.py` measures again.
In float32 the estimate was within 30 % of each, whichever moment was the larger; in bfloat16, whose convolutions a CPU
does in copies, between 0.7 and 1 of it.
On a GPU, which holds no freed memory between two tensors, the estimate should be too high; that was not measured.
Text encoders are left out: they need less than either moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from omnirt_lab.pipelines.model_index import patch_size, vae_scale
from omnirt_lab.pipelines.stored_weights import BYTES_OF
from omnirt_lab.records import Json

UNCERTAINTY: Final = 3
"""A call certainly needs a third of what is estimated."""

_PICTURE_VAES: Final = ("AutoencoderKL",)
_VIDEO_VAES: Final = ("AutoencoderKLWan", "AutoencoderKLQwenImage")
_UNETS: Final = ("UNet2DConditionModel",)

_DECODED: Final = 4.5
"""Full-size tensors of a decoder's last level at once: its input, normed, activated, and in the convolution's order."""

_DECODED_FRAMES: Final = 24
"""The same for a video's, each convolution of which also keeps the frames before. A CPU's convolutions took 35."""

_FRAMES_A_CHUNK: Final = 4
"""A video's latent frames are decoded one after the other, into four frames each."""

_OUTPUTS: Final = 3
"""The finished pictures as the decoder, the post-processing and numpy have them, in float32."""

_RESNET: Final = 3 * 3 * 2
"""Tensors of a UNet's level where it takes the skips: three times as wide, three at once, in two orders."""

_ATTENTION: Final = 19 * 2
"""Tensors of a UNet's level with attention: the gated feed-forward is eight times as wide."""

_TRANSFORMER: Final = 24
"""Tensors of a transformer's tokens: query, key, value, a feed-forward four times as wide, and what they become."""

_TEXT_TOKENS: Final = 512
_TILE_PX: Final = 256
"""Side of a video VAE's tiles; a picture VAE's are as large as what it was trained on."""
_FLOAT32_BYTES: Final = 4
_CHANNELS: Final = 3


@dataclass(frozen=True)
class CallShape:
    """What of a call decides its largest tensors."""

    width_px: int

    height_px: int

    frames: int
    """1 for a picture."""

    rows: int
    """Pictures or videos in the call."""

    is_guided: bool
    """Each step predicts with the prompt and without, in one call of the denoiser where the family does that."""

    dtype: str
    """`float32`, `float16` or `bfloat16`."""

    vae_slicing: bool = False

    vae_tiling: bool = False

    @property
    def value_bytes(self) -> int:
        """Of one number."""
        return BYTES_OF[self.dtype]


def denoising_bytes(shape: CallShape, denoiser: Mapping[str, Json], vae: Mapping[str, Json]) -> int | None:
    """What a step needs; None for a denoiser of a kind that was never measured."""
    scale = vae_scale(vae)
    if scale is None or not _is_known(vae):
        return None
    width, height = shape.width_px // scale, shape.height_px // scale
    is_doubled = shape.is_guided and vae.get("_class_name") not in _VIDEO_VAES and "guidance_embeds" not in denoiser
    rows = shape.rows * (2 if is_doubled else 1)
    if denoiser.get("_class_name") in _UNETS:
        values = _unet_values(denoiser, width * height)
    else:
        values = _transformer_values(denoiser, vae, width * height * _latent_frames(shape, vae))
    return None if values is None else values * rows * shape.value_bytes


def decoding_bytes(shape: CallShape, vae: Mapping[str, Json]) -> int | None:
    """What the VAE needs; None for one of a kind that was never measured."""
    if not _is_known(vae):
        return None
    is_video = vae.get("_class_name") in _VIDEO_VAES
    channels = _last_channels(vae, is_video=is_video)
    if channels is None:
        return None
    pixels = shape.width_px * shape.height_px
    if shape.vae_tiling:
        side = vae.get("sample_size")
        pixels = min(pixels, (side if isinstance(side, int) else _TILE_PX) ** 2)
    rows = 1 if shape.vae_slicing else shape.rows
    is_upcast = shape.dtype == "float16" and vae.get("force_upcast")  # by SDXL; others leave it
    value_bytes = _FLOAT32_BYTES if is_upcast else shape.value_bytes
    frames = min(shape.frames, _FRAMES_A_CHUNK) if is_video else 1
    at_once = (_DECODED_FRAMES if is_video else _DECODED) * channels * pixels * frames * rows * value_bytes
    outputs = _OUTPUTS * _CHANNELS * shape.width_px * shape.height_px * shape.frames * shape.rows * _FLOAT32_BYTES
    return int(at_once) + outputs


def _is_known(vae: Mapping[str, Json]) -> bool:
    return vae.get("_class_name") in (*_PICTURE_VAES, *_VIDEO_VAES)


def _latent_frames(shape: CallShape, vae: Mapping[str, Json]) -> int:
    scale = vae.get("scale_factor_temporal")
    return (shape.frames - 1) // scale + 1 if isinstance(scale, int) and scale else shape.frames


def _last_channels(vae: Mapping[str, Json], *, is_video: bool) -> int | None:
    """Channels that a decoder has at full size, where it is widest."""
    if is_video:
        base, widths = vae.get("base_dim"), vae.get("dim_mult")
        return base * widths[0] if isinstance(base, int) and isinstance(widths, list) else None
    widths = vae.get("block_out_channels")
    if not isinstance(widths, list) or not widths:
        return None
    return int(widths[min(1, len(widths) - 1)])


def _unet_values(denoiser: Mapping[str, Json], latents: int) -> int | None:
    widths, blocks, layers = (
        denoiser.get(name) for name in ("block_out_channels", "down_block_types", "layers_per_block")
    )
    if not (isinstance(widths, list) and isinstance(blocks, list)):
        return None
    each = layers if isinstance(layers, list) else [layers] * len(widths)
    kept, largest = widths[0] * latents, 0
    for level, (width, block, count) in enumerate(zip(widths, blocks, each, strict=True)):
        values = width * latents // 4**level
        kept += values * count + values // 4
        largest = max(largest, values * (_ATTENTION if "Attn" in str(block) else _RESNET))
    return int(kept + largest)


def _transformer_values(denoiser: Mapping[str, Json], vae: Mapping[str, Json], latents: int) -> int | None:
    heads, width = denoiser.get("num_attention_heads"), denoiser.get("attention_head_dim")
    if not (isinstance(heads, int) and isinstance(width, int)):
        return None
    tokens = latents // patch_size(denoiser, vae) ** 2 + _TEXT_TOKENS
    return _TRANSFORMER * heads * width * tokens
