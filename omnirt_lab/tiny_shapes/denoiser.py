"""The networks that turn a caption and noise into latents, and the loss that trains them."""

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from omnirt_lab.tiny_shapes.tokenizer import MAX_TOKENS
from omnirt_lab.tiny_shapes.vae import LATENT_CHANNELS

TEXT_WIDTH = 96
TOKEN_SCALE, POSITION_SCALE = 20.0, 10.0
"""CLIP's initial embeddings have deviation 0.02, which suits wide models; these bring them near 0.4 and 0.2."""


def build_text_encoder(vocabulary_size: int, end_token: int) -> CLIPTextModel:
    """Build the untrained text encoder, two layers of width 96."""
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=end_token - 1,
        eos_token_id=end_token,
        pad_token_id=end_token,
    )
    encoder = CLIPTextModel(config)
    with torch.no_grad():
        encoder.embeddings.token_embedding.weight *= TOKEN_SCALE
        encoder.embeddings.position_embedding.weight *= POSITION_SCALE
    return encoder


def build_unet() -> UNet2DConditionModel:
    """Build the untrained UNet for latents of 4 x 8 x 8; inpainting without a mask channel wants exactly four."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
    )


def build_scheduler() -> DDIMScheduler:
    """Build the scheduler that the model is trained for and ships with."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def denoising_loss(
    unet: UNet2DConditionModel,
    scheduler: DDIMScheduler,
    latents: Tensor,
    text_states: Tensor,
    rng: torch.Generator,
) -> Tensor:
    """Return the squared error of the predicted velocity (Salimans and Ho, 2022, https://arxiv.org/abs/2202.00512).

    Parameters
    ----------
    latents
        Clean latents, (B, 4, 8, 8), each channel of mean 0 and deviation 1.
    text_states
        The text encoder's last hidden states, (B, 32, 96).
    rng
        Draws the noise and one timestep from each of B equal parts of the schedule.
    """
    noise = torch.randn(latents.shape, generator=rng)
    timesteps = stratified_timesteps(len(latents), scheduler.config["num_train_timesteps"], rng)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    return functional.mse_loss(unet(noisy, timesteps, text_states).sample, velocity)


def stratified_timesteps(count: int, total: int, rng: torch.Generator) -> Tensor:
    """Draw one whole timestep from each of `count` equal parts of 0 to `total` - 1."""
    parts = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    return (parts * total).long().clamp(max=total - 1)
