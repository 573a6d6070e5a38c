"""How far the estimate of a call's memory is from what the call takes: resident memory on this machine's CPU.

Each case is a process of its own: it builds a random model of some width, calls it small once so that every library has
what it keeps, and measures the peak of a call at the case's size above the memory before it. The weights' estimate is
beside what the loaded weights hold. Allocators of GPUs are not measured here.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from diffusers import AutoencoderKL, AutoencoderKLWan, DiffusionPipeline, FluxTransformer2DModel, SD3Transformer2DModel
from report import emit_report

from omnirt_lab.pipelines.activations import UNCERTAINTY
from omnirt_lab.pipelines.call_arguments import call_parameters
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.memory import LinuxRss
from omnirt_lab.pipelines.memory_estimate import Plan, memory_needs
from omnirt_lab.pipelines.reclaiming import free_memory, weight_bytes
from omnirt_lab.records import Config
from omnirt_lab.units import BYTES_PER_MIB
from tests.pipelines import tiny

CASES: dict[str, dict[str, Any]] = {
    "tiny-shapes, 512 px": {"family": "builtin", "width": 512, "height": 512},
    "tiny-shapes, 256 px, 4 pictures": {"family": "builtin", "width": 256, "height": 256, "num_images": 4},
    "sd of 160 channels, 512 px": {"family": "sd", "width": 512, "height": 512},
    "sd of 160 channels, 512 px, bfloat16": {"family": "sd", "width": 512, "height": 512, "dtype": "bfloat16"},
    "sd3 of 512 channels, 512 px": {"family": "sd3", "width": 512, "height": 512},
    "flux of 512 channels, 512 px": {"family": "flux", "width": 512, "height": 512},
    "wan of 32 channels, 128 px, 9 frames": {"family": "wan", "width": 128, "height": 128, "num_frames": 9},
}


def build(family: str) -> DiffusionPipeline:
    """A pipeline of the tests, with a wider denoiser and VAE."""
    if family == "builtin":
        return DiffusionPipeline.from_pretrained(get_model("tiny-shapes").location, local_files_only=True)
    pipeline = tiny.build(family)
    parts = pipeline.components
    if family == "wan":
        parts |= {
            "vae": tiny.seeded(
                AutoencoderKLWan, base_dim=32, z_dim=16, dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True]
            )
        }
        return type(pipeline)(**parts, boundary_ratio=0.5)
    widths = (64, 128, 256, 256)
    parts["vae"] = tiny.seeded(
        AutoencoderKL,
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        latent_channels=4,
        shift_factor=0.06,
        sample_size=512,
    )
    if family == "sd":
        parts["unet"] = tiny.unet(
            block_out_channels=(160, 320, 640, 640),
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            layers_per_block=2,
            norm_num_groups=32,
            attention_head_dim=8,
            cross_attention_dim=tiny.TEXT_DIM,
        )
        return type(pipeline)(**parts, requires_safety_checker=False)
    shared = {"num_layers": 2, "num_attention_heads": 8, "attention_head_dim": 64, "joint_attention_dim": 64}
    if family == "sd3":
        parts["transformer"] = tiny.seeded(
            SD3Transformer2DModel,
            **shared,
            sample_size=128,
            in_channels=4,
            out_channels=4,
            caption_projection_dim=512,
            pooled_projection_dim=64,
        )
    else:
        parts["transformer"] = tiny.seeded(
            FluxTransformer2DModel,
            **shared,
            in_channels=16,
            num_single_layers=2,
            pooled_projection_dim=32,
            axes_dims_rope=(16, 24, 24),
        )
    return type(pipeline)(**parts)


def measure(case: dict[str, Any]) -> dict[str, float]:
    """What the case takes and what was estimated, in MiB."""
    family, config = case["family"], Config(**{name: value for name, value in case.items() if name != "family"})
    dtype = getattr(torch, config.dtype or "float32")
    pipeline = build(family).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline.save_pretrained(folder)
        plan = Plan(get_model(folder), config, torch.device("cpu"), call_parameters(type(pipeline)))
        (need,) = memory_needs(plan)
    counted = {"num_videos_per_prompt" if family == "wan" else "num_images_per_prompt": config.num_images}
    frames = {"num_frames": config.num_frames} if config.num_frames else {}
    shared = {"prompt": "a red circle", "num_inference_steps": 2, "output_type": "np"}
    pipeline(**shared, width=64, height=64, **({"num_frames": 5} if frames else {}))
    gc.collect()
    free_memory()
    meter = LinuxRss()
    before = meter.read()
    meter.mark_peak()
    pipeline(**shared, width=config.width, height=config.height, **counted, **frames)
    peak = meter.take_peak()
    assert before is not None
    assert peak is not None, "this sandbox forbids to reset the peak"
    assert need.activation_bytes is not None
    return {
        "weights_MiB": weight_bytes(pipeline) / BYTES_PER_MIB,
        "estimated_weights_MiB": need.weight_bytes / BYTES_PER_MIB,
        "call_MiB": (peak - before) / BYTES_PER_MIB,
        "estimated_call_MiB": need.activation_bytes / BYTES_PER_MIB,
        "estimate_to_measured": need.activation_bytes / (peak - before),
    }


def main() -> None:
    rows = []
    for name, case in CASES.items():
        answer = subprocess.run(
            [sys.executable, __file__, json.dumps(case)], capture_output=True, text=True, check=True
        ).stdout
        rows.append({"case": name, **json.loads(answer.splitlines()[-1])})
    ratios = [row["estimate_to_measured"] for row in rows]
    weights = max(abs(row["estimated_weights_MiB"] / row["weights_MiB"] - 1) for row in rows)
    verdicts = {
        f"weights are within 1 % of what is held: {weights:.2%}": weights < 0.01,
        f"what is refused for certain, a third of the estimate, is less than what every case took: at most "
        f"{max(ratios) / UNCERTAINTY:.2f} of it": max(ratios) < UNCERTAINTY,
        f"no estimate is less than half of what was taken: at least {min(ratios):.2f}": min(ratios) > 0.5,
    }
    emit_report("memory_estimate", rows, verdicts)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
