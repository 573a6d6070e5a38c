"""Tiny random pipelines for tasks beyond text2image: a picture moves, a text sounds, an instruction edits."""

from __future__ import annotations

from diffusers import (
    AutoencoderOobleck,
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
    StableDiffusionInstructPix2PixPipeline,
    WanImageToVideoPipeline,
)

from tests.pipelines import tiny

SAMPLE_RATE_HZ = 4


def build_wan_i2v() -> WanImageToVideoPipeline:
    """Wan 2.2's image to video: the first frame's latents and a mask join the noise in the channels."""
    parts = tiny.build_wan().components
    return WanImageToVideoPipeline(
        **{name: parts[name] for name in ("tokenizer", "text_encoder", "vae")},
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=tiny.wan_transformer(in_channels=36),
        transformer_2=tiny.wan_transformer(in_channels=36),
        boundary_ratio=0.5,
    )


def build_stable_audio() -> StableAudioPipeline:
    """Stable Audio: a T5, a projection of text and seconds, a transformer, a waveform VAE; stereo."""
    return StableAudioPipeline(
        vae=tiny.seeded(
            AutoencoderOobleck,
            encoder_hidden_size=6,
            downsampling_ratios=[1, 2],
            decoder_channels=3,
            decoder_input_channels=3,
            audio_channels=2,
            channel_multiples=[2, 4],
            sampling_rate=SAMPLE_RATE_HZ,
        ),
        text_encoder=tiny.t5(d_model=tiny.TEXT_DIM),
        tokenizer=tiny.t5_tokenizer(),
        projection_model=tiny.seeded(
            StableAudioProjectionModel,
            text_encoder_dim=tiny.TEXT_DIM,
            conditioning_dim=4,
            min_value=0,
            max_value=32,
        ),
        transformer=tiny.seeded(
            StableAudioDiTModel,
            sample_size=32,
            in_channels=3,
            num_layers=2,
            attention_head_dim=4,
            num_key_value_attention_heads=2,
            out_channels=3,
            cross_attention_dim=4,
            time_proj_dim=8,
            global_states_input_dim=8,
            cross_attention_input_dim=4,
        ),
        scheduler=EDMDPMSolverMultistepScheduler(
            solver_order=2,
            prediction_type="v_prediction",
            sigma_data=1.0,
            sigma_schedule="exponential",
        ),
    )


def build_pix2pix() -> StableDiffusionInstructPix2PixPipeline:
    """InstructPix2Pix: the picture's latents join the noise in the channels."""
    parts = tiny.build_sd().components
    return StableDiffusionInstructPix2PixPipeline(
        **{name: parts[name] for name in ("text_encoder", "tokenizer", "vae")},
        unet=tiny.unet(in_channels=8, cross_attention_dim=tiny.TEXT_DIM),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
