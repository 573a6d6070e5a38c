"""Latents to a small picture, by the pipeline's own VAE and without a trace on it."""

from __future__ import annotations

import io
from typing import Any, Final

import diffusers
import torch
from PIL import Image
from torch._dynamo.eval_frame import OptimizedModule
from torch.nn.functional import interpolate

from omnirt_lab.pipelines.sites import AnyPipeline

MAX_PX: Final = 256
"""Longest side of a preview."""

MEDIA_TYPE: Final = "image/jpeg"
_JPEG_QUALITY: Final = 85

_PACKED: Final = ("diffusers.pipelines.flux.", "diffusers.modular_pipelines.flux.")
_FAMILIES: Final = (
    "diffusers.pipelines.stable_diffusion.",
    "diffusers.pipelines.stable_diffusion_xl.",
    "diffusers.pipelines.stable_diffusion_3.",
    "diffusers.pipelines.latent_consistency_models.",
    "diffusers.pipelines.pixart_alpha.",
    "diffusers.modular_pipelines.stable_diffusion_xl.",
    "diffusers.modular_pipelines.stable_diffusion_3.",
    *_PACKED,
)
"""Modules of the pipelines that decode exactly as `VaeDecoder` does."""

_PATCH: Final = 2
"""Side of the square of latents that Flux packs into one token."""

_HOOKS: Final = ("_hf_hook", "_diffusers_hook", "_forward_hooks", "_forward_pre_hooks")


class VaeDecoder:
    """Decodes one picture at no more than a given size.

    Latents that are larger are averaged down first: a decode costs by its pixels, and latents are local, so what comes
    out is the picture, a little softer than its own thumbnail.
    """

    def __init__(self, vae: Any, *, is_packed: bool) -> None:
        self.vae = vae
        self._is_packed = is_packed
        self._factor = 2 ** (len(vae.config.block_out_channels) - 1)

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Heights and widths of latents that may be decoded instead of these: 256, 128 or 64 pixels, no larger."""
        found: dict[tuple[int, int], None] = {}  # a set that keeps the order
        for limit_px in (MAX_PX, MAX_PX // 2, MAX_PX // 4):
            scale = min(1.0, max(1, limit_px // self._factor) / max(height, width))
            found[max(1, round(height * scale)), max(1, round(width * scale))] = None
        return tuple(found)

    def latents(self, clean: torch.Tensor, img_ids: torch.Tensor | None) -> torch.Tensor | None:
        """The first latents (1, C, H, W); None where they have another shape than this VAE's, or are elsewhere.

        `img_ids` (tokens, 3) are what Flux's transformer is given: picture number, row and column of each token.
        """
        first = clean[:1]
        if self._is_packed:
            unpacked = None if img_ids is None else _unpacked(first, img_ids)
            if unpacked is None:
                return None
            first = unpacked
        fits = first.ndim == 4 and first.shape[1] == self.vae.config.latent_channels
        return first if fits and first.device == self.vae.device else None

    def picture(self, latents: torch.Tensor, size: tuple[int, int]) -> bytes | None:
        """The picture as JPEG; None if the decode gave values that are no numbers."""
        pixels = self.pixels(latents, size)
        return _jpeg(pixels) if bool(torch.isfinite(pixels).all()) else None

    @torch.no_grad()
    def pixels(self, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The picture (3, H, W), -1 to 1 and a little beyond, on the CPU."""
        config = self.vae.config
        scaled = latents.float()
        if scaled.shape[-2:] != size:
            scaled = interpolate(scaled, size=size, mode="area")
        if config.latents_mean is not None and config.latents_std is not None:
            mean, std = (
                torch.tensor(v, device=scaled.device).view(1, -1, 1, 1)
                for v in (config.latents_mean, config.latents_std)
            )
            scaled = scaled * std / config.scaling_factor + mean
        else:
            scaled = scaled / config.scaling_factor + (config.shift_factor or 0.0)
        decode = type(self.vae).decode  # the class's: the instance's is watched as a stage
        pixels: torch.Tensor = decode(self.vae, scaled.to(self.vae.dtype), return_dict=False)[0][0]
        return pixels.float().cpu()


def find_decoder(pipeline: AnyPipeline, device: torch.device) -> VaeDecoder | None:
    """The decoder for this pipeline; None where its way of decoding is not known, or a decode would disturb the run.

    It would where weights are elsewhere or are moved by hooks, where somebody else listens to the VAE, and where a
    compiled part would be compiled again for another size.
    """
    module = type(pipeline).__module__ + "."
    vae: Any = getattr(pipeline, "vae", None)
    is_known = module.startswith(_FAMILIES) and not isinstance(pipeline, diffusers.StableDiffusion3InpaintPipeline)
    if not is_known or type(vae) is not diffusers.AutoencoderKL or vae.training:
        return None
    if vae.config.out_channels != 3 or (vae.dtype == torch.float16 and vae.config.force_upcast):
        return None
    if any(part.device.type != device.type for part in vae.parameters()) or not all(map(_is_plain, vae.modules())):
        return None
    return VaeDecoder(vae, is_packed=module.startswith(_PACKED))


def _is_plain(module: torch.nn.Module) -> bool:
    attributes = vars(module)
    is_compiled = isinstance(module, OptimizedModule) or (
        attributes.get("_compiled_call_impl") is not None and not isinstance(module, diffusers.AutoencoderKL)
    )  # the VAE's own call is where the probe stands, and decode does not go through it
    return not is_compiled and not any(attributes.get(name) for name in _HOOKS)


def _unpacked(tokens: torch.Tensor, img_ids: torch.Tensor) -> torch.Tensor | None:
    """Tokens (1, rows * columns, 4 C) as latents (1, C, 2 rows, 2 columns)."""
    own = img_ids[img_ids[:, 0] == 0] if img_ids.ndim == 2 else img_ids[:0]
    if tokens.ndim != 3 or len(own) != tokens.shape[1] or tokens.shape[2] % _PATCH**2:
        return None
    rows, columns = (int(number) + 1 for number in own[:, 1:].amax(dim=0).tolist())
    if rows * columns != tokens.shape[1]:
        return None
    grid = tokens.view(1, rows, columns, tokens.shape[2] // _PATCH**2, _PATCH, _PATCH)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(1, -1, _PATCH * rows, _PATCH * columns)


def _jpeg(pixels: torch.Tensor) -> bytes:
    """A picture (3, H, W), -1 to 1, as JPEG."""
    values = (pixels / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(values.permute(1, 2, 0).contiguous().numpy()).save(
        file, "JPEG", quality=_JPEG_QUALITY, subsampling=0
    )
    return file.getvalue()
