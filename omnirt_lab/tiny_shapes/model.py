"""The networks of tiny-shapes together, and the folder that `from_pretrained` loads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from omnirt_lab.tiny_shapes.denoiser import build_text_encoder, build_unet
from omnirt_lab.tiny_shapes.tokenizer import save_tokenizer

TEXT_PREFIX = "text_model."
"""What transformers 4 puts before the names of a text encoder's weights; transformers 5 reads them with or without."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What reads captions and denoises; the autoencoder is trained apart from them."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel

    def read(self, captions: Sequence[str]) -> Tensor:
        """Return the text encoder's last hidden states, (B, 32, 96), as StableDiffusionPipeline computes them."""
        tokens = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        states: Tensor = self.text_encoder(tokens.input_ids)[0]
        return states


def build_networks(tokenizer: CLIPTokenizer) -> Networks:
    """Build the untrained networks for the tokenizer's vocabulary."""
    text_encoder = build_text_encoder(len(tokenizer), tokenizer.eos_token_id)
    return Networks(tokenizer=tokenizer, text_encoder=text_encoder, unet=build_unet())


def save_pipeline(networks: Networks, vae: AutoencoderKL, scheduler: DDIMScheduler, folder: Path) -> None:
    """Save a StableDiffusionPipeline: float16 on disk, float32 when loaded without a dtype."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=networks.text_encoder,
        tokenizer=networks.tokenizer,
        unet=networks.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    save_tokenizer(networks.tokenizer, folder / "tokenizer")
    _rewrite(folder / "text_encoder" / "model.safetensors", prefix=TEXT_PREFIX)
    for part in ("unet", "vae"):
        _rewrite(folder / part / "diffusion_pytorch_model.safetensors", prefix="")


def _rewrite(weights: Path, *, prefix: str) -> None:
    """Rewrite a file of float32 weights as float16; its config still says float32, which is what loads."""
    tensors = {prefix + name.removeprefix(prefix): half.to(torch.float16) for name, half in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
