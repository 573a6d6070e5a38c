"""One realistic run as event data: 20 steps, 12 stages, 30 memory readings, a Stable Diffusion's components."""

from __future__ import annotations

import hashlib

from omnirt_lab.journal import JobWriter, Journal, Worker
from omnirt_lab.records import (
    Artifact,
    CacheHitData,
    CacheMissData,
    ComponentFacts,
    Config,
    Environment,
    GenerateRequest,
    GeneratorFacts,
    Inputs,
    JobFinishedData,
    JobStartedData,
    LatentStats,
    MemoryData,
    ProbeCost,
    Resolved,
    RunReport,
    StageEndData,
    StageStartData,
    StepData,
)

STEPS = 20
MEMORY_READINGS = 30
STAGES = ("text_encoder", "text_encoder", "denoise", "vae_decode", "postprocess", "safety_checker")
MORE_STAGES = ("vae_encode", "image_encoder", "scheduler_setup", "latents", "export")

ENVIRONMENT = Environment(
    python="3.11.7",
    platform="Linux-6.18.44-x86_64-with-glibc2.36",
    packages={
        "torch": "2.13.0+cpu",
        "diffusers": "0.42.1",
        "transformers": "5.23.0",
        "accelerate": "1.14.0",
        "safetensors": "0.8.0",
        "omnirt-lab": "0.1.0",
    },
    cpu="AMD EPYC 7B13",
    torch_threads=2,
)


def resolved(seed: int) -> Resolved:
    weights = {"text_encoder": "CLIPTextModel", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    components = {
        name: ComponentFacts(
            class_name=class_name,
            device="cpu",
            dtype="float32",
            parameter_count=3_512_004,
            parameter_bytes=14_048_016,
            fingerprint=hashlib.sha256(name.encode()).hexdigest()[:16],
        )
        for name, class_name in weights.items()
    }
    components |= {
        "tokenizer": ComponentFacts(class_name="CLIPTokenizer"),
        "scheduler": ComponentFacts(class_name="DDIMScheduler"),
    }
    return Resolved(
        pipeline_class="StableDiffusionPipeline",
        components=components,
        scheduler_config={
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
            "rescale_betas_zero_snr": True,
        },
        config={
            "height": 64,
            "width": 64,
            "num_inference_steps": STEPS,
            "guidance_scale": 5.0,
            "num_images_per_prompt": 1,
            "eta": 0.0,
            "output_type": "pil",
            "return_dict": True,
            "guidance_rescale": 0.0,
        },
        generators=(GeneratorFacts(device="cpu", seed=seed),),
    )


def request(index: int) -> GenerateRequest:
    return GenerateRequest(
        model=("tiny-shapes", "stabilityai/stable-diffusion-xl-base-1.0")[index % 2],
        inputs=Inputs(prompt=f"a red circle on a blue background, number {index}", negative_prompt="blurry"),
        config=Config(steps=STEPS, guidance_scale=5.0, seed=index, width=64, height=64),
    )


def record(journal: Journal, worker: Worker, index: int) -> RunReport:
    """Write one whole run, as fast as the journal takes it."""
    return record_events(journal, worker, index).finish(ending(index))


def record_events(journal: Journal, worker: Worker, index: int) -> JobWriter:
    """All of a run but its end."""
    job = journal.enqueue(request(index))
    writer = journal.claim(job.job_id, worker)
    assert writer is not None
    writer.emit(JobStartedData(worker_id=worker.worker_id, execution_mode="legacy_call", environment=ENVIRONMENT))
    stage(writer, "load", resolved=resolved(index))
    for name in STAGES + MORE_STAGES:
        if name == "denoise":
            denoise(writer)
        else:
            stage(writer, name)
    writer.emit(CacheMissData(cache_type="text_embedding", component="text_encoder"))
    writer.emit(CacheHitData(cache_type="resident_pipeline", saved_ns=142_000_000))
    return writer


def ending(index: int) -> JobFinishedData:
    sha256 = hashlib.sha256(str(index).encode()).hexdigest()
    picture = Artifact(sha256=sha256, media_type="image/png", size_bytes=7_431, width_px=64, height_px=64, seed=index)
    stats = LatentStats(
        shape=(1, 4, 16, 16), mean=0.0123456789, std=0.93456789, min=-3.123456, max=3.456789, nan_count=0
    )
    return JobFinishedData(artifacts=(picture,), latent_stats=stats, probe=ProbeCost(overhead_ns=1_912_345))


def stage(writer: JobWriter, name: str, *, resolved: Resolved | None = None) -> None:
    writer.emit(StageStartData(class_name="CLIPTextModel", device="cpu"), stage=name)
    writer.emit(StageEndData(peak_bytes=575_123_456, memory_kind="rss", resolved=resolved), stage=name)


def denoise(writer: JobWriter) -> None:
    writer.emit(StageStartData(class_name="UNet2DConditionModel", device="cpu"), stage="denoise")
    for index in range(MEMORY_READINGS):
        writer.emit(MemoryData(device="cpu", kind="rss", current_bytes=512_000_000 + index * 4096))
        if index < STEPS:
            data = StepData(index=index, total=STEPS, start_t_ns=writer.now_ns(), timestep=float(999 - index * 50))
            writer.emit(data, stage="denoise")
    writer.emit(StageEndData(peak_bytes=575_123_456, memory_kind="rss"), stage="denoise")
