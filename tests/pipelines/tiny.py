"""Tiny random pipelines of five families, through the real diffusers classes: no file, no network, fixed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

SEED = 0
TEXT_DIM = 32
MAX_TOKENS = 16
T5_LETTERS = "▁abcdefghijklmnopqrstuvwxyz0123456789.,"
T5_VOCABULARY = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -2.0) for letter in T5_LETTERS)]


def build_sd() -> StableDiffusionPipeline:
    """Stable Diffusion: one CLIP encoder, UNet, DDIM."""
    return StableDiffusionPipeline(
        text_encoder=_clip(CLIPTextModel),
        tokenizer=_clip_tokenizer(),
        unet=unet(cross_attention_dim=TEXT_DIM),
        vae=_vae(latent_channels=4),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sdxl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL: two CLIP encoders, UNet with added time ids, Euler."""
    denoiser = unet(
        cross_attention_dim=2 * TEXT_DIM,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_DIM + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        unet=denoiser,
        vae=_vae(latent_channels=4),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        add_watermarker=False,
    )


def build_sd3() -> StableDiffusion3Pipeline:
    """Stable Diffusion 3: two CLIP encoders and a T5, MMDiT, flow matching."""
    transformer = seeded(
        SD3Transformer2DModel,
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_DIM,
        caption_projection_dim=64,
        pooled_projection_dim=2 * TEXT_DIM,
    )
    return StableDiffusion3Pipeline(
        text_encoder=_clip(CLIPTextModelWithProjection),
        text_encoder_2=_clip(CLIPTextModelWithProjection),
        text_encoder_3=t5(d_model=2 * TEXT_DIM),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
        transformer=transformer,
        vae=_vae(latent_channels=4, shift_factor=0.06),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def build_flux() -> FluxPipeline:
    """Flux: a CLIP encoder and a T5, a transformer with packed latents."""
    transformer = seeded(
        FluxTransformer2DModel,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_DIM,
        pooled_projection_dim=TEXT_DIM,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        text_encoder=_clip(CLIPTextModel),
        text_encoder_2=t5(d_model=2 * TEXT_DIM),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        vae=_vae(latent_channels=4, shift_factor=0.06),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def build_wan(*, boundary_ratio: float | None = 0.5) -> WanPipeline:
    """Wan 2.2: a UMT5 encoder and two transformers, the second one below `boundary_ratio` of the noise."""
    config = UMT5Config(
        vocab_size=64, d_model=TEXT_DIM, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    vae = seeded(
        AutoencoderKLWan,
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    return WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=seeded(UMT5EncoderModel, config),
        transformer=wan_transformer(),
        transformer_2=wan_transformer() if boundary_ratio is not None else None,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        boundary_ratio=boundary_ratio,
    )


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd": build_sd,
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "flux": build_flux,
    "wan": build_wan,
}

SIZES: dict[str, dict[str, Any]] = {
    "sd": {"height": 32, "width": 32},
    "sdxl": {"height": 32, "width": 32},
    "sd3": {"height": 32, "width": 32, "max_sequence_length": MAX_TOKENS},
    "flux": {"height": 32, "width": 32, "max_sequence_length": MAX_TOKENS},
    "wan": {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": MAX_TOKENS},
}

ENCODERS: dict[str, tuple[str, ...]] = {
    "sd": ("text_encoder",),
    "sdxl": ("text_encoder", "text_encoder_2"),
    "sd3": ("text_encoder", "text_encoder_2", "text_encoder_3"),
    "flux": ("text_encoder", "text_encoder_2"),
    "wan": ("text_encoder",),
}

DENOISERS: dict[str, tuple[str, ...]] = {
    "sd": ("unet",),
    "sdxl": ("unet",),
    "sd3": ("transformer",),
    "flux": ("transformer",),
    "wan": ("transformer", "transformer_2"),
}


def build(family: str) -> DiffusionPipeline:
    """Build a new pipeline of this family; its weights are the same every time, its progress bar is off."""
    pipeline = BUILDERS[family]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_options(
    family: str, *, steps: int = 4, seed: int = 7, prompt: str = "a red circle", **more: Any
) -> dict[str, Any]:
    """Arguments of a call that gives the same numpy picture every time."""
    options = {
        "prompt": prompt,
        "num_inference_steps": steps,
        "generator": torch.Generator("cpu").manual_seed(seed),
        "output_type": "np",
    }
    return options | SIZES[family] | more


def picture_of(output: Any) -> Any:
    """The numpy array of an output, whatever the family calls it."""
    return output.frames if "frames" in output else output.images


def seeded(model_class: Callable[..., Any], *args: Any, **config: Any) -> Any:
    """A model with the same random weights every time; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return model_class(*args, **config).eval()


def _clip(model_class: type) -> Any:
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=TEXT_DIM,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=TEXT_DIM,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return seeded(model_class, config)


def _clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE without merges: every letter is a token."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_TOKENS)


def t5(*, d_model: int) -> T5EncoderModel:
    """T5's encoder."""
    config = T5Config(
        vocab_size=64, d_model=d_model, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=1
    )
    return seeded(T5EncoderModel, config)


def t5_tokenizer() -> T5Tokenizer:
    """Unigram over single letters; vocabulary in memory."""
    return T5Tokenizer(vocab=T5_VOCABULARY, extra_ids=0, model_max_length=MAX_TOKENS)


def unet(**config: Any) -> UNet2DConditionModel:
    """Stable Diffusion's UNet, with these changes to its config."""
    shape = {
        "sample_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return seeded(UNet2DConditionModel, **(shape | config))


def _vae(**config: Any) -> AutoencoderKL:
    shape = {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 8,
        "sample_size": 64,
    }
    return seeded(AutoencoderKL, **(shape | config))


def wan_transformer(*, in_channels: int = 16) -> WanTransformer3DModel:
    """Wan's transformer; image to video has more channels."""
    return seeded(
        WanTransformer3DModel,
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=16,
        text_dim=TEXT_DIM,
        freq_dim=64,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
