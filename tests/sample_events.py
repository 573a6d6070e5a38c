"""Event lists as real runs write them: what the fold and view tests, and the pictures made by hand, are made from."""

from __future__ import annotations

import hashlib
import io

from PIL import Image, ImageDraw

from omnirt_lab.folds import report
from omnirt_lab.records import (
    AnyEvent,
    Artifact,
    CacheHitData,
    CacheMissData,
    ComponentFacts,
    Config,
    Environment,
    ErrorInfo,
    EventData,
    GenerateRequest,
    GeneratorFacts,
    Inputs,
    JobCancelledData,
    JobEnqueuedData,
    JobFailedData,
    JobFinishedData,
    JobLostData,
    JobStartedData,
    LatentStats,
    MemoryData,
    ProbeCost,
    Resolved,
    RunReport,
    StageEndData,
    StageErrorData,
    StageStartData,
    StepData,
    WarningData,
    make_event,
)

MS = 1_000_000
MIB = 1024 * 1024
ENQUEUED_AT_MS = 1_764_000_000_000


def picture(size_px: int = 64, colour: str = "#c23b3b") -> bytes:
    """PNG bytes of a disc, as tiny-shapes would draw it."""
    image = Image.new("RGB", (size_px, size_px), "#2f5fb3")
    ImageDraw.Draw(image).ellipse([size_px // 5, size_px // 5, size_px * 4 // 5, size_px * 4 // 5], fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def artifact(png: bytes, index: int = 0, *, size_px: int = 64, seed: int | None = 7) -> Artifact:
    return Artifact(
        sha256=hashlib.sha256(png).hexdigest(),
        media_type="image/png",
        size_bytes=len(png),
        width_px=size_px,
        height_px=size_px,
        index=index,
        seed=seed,
    )


RESOLVED = Resolved(
    pipeline_class="StableDiffusionPipeline",
    components={
        "text_encoder": ComponentFacts(
            class_name="CLIPTextModel",
            device="cpu",
            dtype="float32",
            parameter_count=1_200_000,
            parameter_bytes=4_800_000,
        ),
        "unet": ComponentFacts(
            class_name="UNet2DConditionModel", device="cpu", dtype="float32", parameter_count=3_500_000
        ),
        "vae": ComponentFacts(class_name="AutoencoderKL", device="cpu", dtype="float32", parameter_count=400_000),
        "tokenizer": ComponentFacts(class_name="CLIPTokenizer"),
        "scheduler": ComponentFacts(class_name="DDIMScheduler"),
    },
    scheduler_config={"num_train_timesteps": 1000},
    config={"num_inference_steps": 20, "guidance_scale": 5.0, "height": 64, "width": 64},
    generators=(GeneratorFacts(device="cpu", seed=7),),
)

ENVIRONMENT = Environment(
    python="3.11.9", platform="Linux-6.1-x86_64", packages={"torch": "2.13.0", "diffusers": "0.42.1"}, torch_threads=2
)


class Tape:
    """A job's events, written down one after the other on a clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.t_ns = 0

    def add(self, data: EventData, *, stage: str | None = None, after_ms: float = 0.0) -> Tape:
        self.t_ns += int(after_ms * MS)
        event = make_event(
            data,
            seq=len(self.events) + 1,
            t_ns=self.t_ns,
            timestamp_ms=ENQUEUED_AT_MS + self.t_ns // MS,
            stage=stage,
        )
        self.events.append(event)
        return self

    def enqueue(
        self, prompt: str = "a red circle on a blue background", *, model: str = "tiny-shapes", is_async: bool = False
    ) -> Tape:
        request = GenerateRequest(
            model=model, inputs=Inputs(prompt=prompt), config=Config(steps=20, seed=7, width=64, height=64)
        )
        return self.add(JobEnqueuedData(run_id="run-1", trace_id="0" * 31 + "1", request=request, is_async=is_async))

    def start(self, *, after_ms: float = 0.4, attempt: int = 1, resolved: Resolved | None = None) -> Tape:
        data = JobStartedData(
            worker_id="worker-1",
            execution_mode="legacy_call",
            environment=ENVIRONMENT,
            attempt=attempt,
            resolved=resolved,
        )
        return self.add(data, after_ms=after_ms)

    def stage(
        self,
        name: str,
        lasts_ms: float,
        *,
        class_name: str | None = None,
        device: str | None = None,
        peak_mib: int | None = None,
        resolved: Resolved | None = None,
        gap_ms: float = 0.2,
    ) -> Tape:
        self.add(StageStartData(class_name=class_name, device=device), stage=name, after_ms=gap_ms)
        peak_bytes = None if peak_mib is None else peak_mib * MIB
        end = StageEndData(peak_bytes=peak_bytes, memory_kind=peak_bytes and "rss", resolved=resolved)
        return self.add(end, stage=name, after_ms=lasts_ms)

    def steps(self, count: int, step_ms: float = 50.0, *, total: int | None = None, first: int = 0) -> Tape:
        """Steps inside an open `denoise`, the first a little slower, with a memory reading after each."""
        for index in range(first, first + count):
            start_t_ns = self.t_ns
            wobble = 1.0 + 0.02 * ((index * 7) % 5 - 2)
            data = StepData(
                index=index, total=total or count, start_t_ns=start_t_ns, timestep=float(1000 - 1000 * index // 20)
            )
            self.add(data, stage="denoise", after_ms=step_ms * wobble + (8.0 if index == 0 else 0.0))
            self.memory(520 + (index % 4) * 6)
        return self

    def memory(self, mib: int, *, is_baseline: bool = False) -> Tape:
        return self.add(MemoryData(device="cpu", kind="rss", current_bytes=mib * MIB, is_baseline=is_baseline))


def begun(
    prompt: str = "a red circle on a blue background", *, model: str = "tiny-shapes", is_async: bool = False
) -> Tape:
    """Enqueued, taken and loaded."""
    tape = Tape().enqueue(prompt, model=model, is_async=is_async).start().memory(410, is_baseline=True)
    return tape.stage("load", 142.0, resolved=RESOLVED, device="cpu", peak_mib=455)


def encoded(tape: Tape) -> Tape:
    tape.add(StageStartData(class_name="CLIPTextModel", device="cpu"), stage="text_encoder", after_ms=0.3)
    tape.add(CacheMissData(cache_type="text_embedding", component="text_encoder"), stage="text_encoder")
    end = StageEndData(peak_bytes=470 * MIB, memory_kind="rss")
    return tape.add(end, stage="text_encoder", after_ms=38.0).memory(468)


def encoded_from_cache(tape: Tape) -> Tape:
    tape.add(StageStartData(class_name="CLIPTextModel", device="cpu"), stage="text_encoder", after_ms=0.3)
    hit = CacheHitData(
        cache_type="text_embedding", component="text_encoder", saved_ns=int(37.4 * MS), size_bytes=2 * 77 * 128 * 4
    )
    tape.add(hit, stage="text_encoder", after_ms=0.1)
    return tape.add(StageEndData(), stage="text_encoder", after_ms=0.5).memory(468)


def denoised(tape: Tape, steps: int = 20, step_ms: float = 50.0) -> Tape:
    tape.add(StageStartData(class_name="UNet2DConditionModel", device="cpu"), stage="denoise", after_ms=0.5)
    tape.steps(steps, step_ms)
    return tape.add(StageEndData(peak_bytes=548 * MIB, memory_kind="rss"), stage="denoise", after_ms=0.2)


def finished(tape: Tape, pictures: int = 1) -> Tape:
    tape.stage("vae_decode", 61.0, class_name="AutoencoderKL", device="cpu", peak_mib=561).memory(540)
    tape.stage("postprocess", 2.1).stage("export", 4.4)
    data = JobFinishedData(
        artifacts=tuple(artifact(picture(), index, seed=7 + index) for index in range(pictures)),
        latent_stats=LatentStats(shape=(1, 4, 16, 16), mean=0.01, std=0.93, min=-3.1, max=3.4, nan_count=0),
        probe=ProbeCost(overhead_ns=int(1.9 * MS)),
    )
    return tape.add(data, after_ms=0.6)


def normal() -> list[AnyEvent]:
    """A first run: loads, encodes, 20 steps, decodes."""
    return finished(denoised(encoded(begun()))).events


def cached() -> list[AnyEvent]:
    """The same prompt again: pipeline resident, embedding from the cache."""
    tape = Tape().enqueue().start(resolved=RESOLVED).memory(470, is_baseline=True)
    tape.add(CacheHitData(cache_type="resident_pipeline", saved_ns=142 * MS))
    return finished(denoised(encoded_from_cache(tape))).events


def submitted() -> list[AnyEvent]:
    """A job of a queue that waited 2.5 s."""
    tape = Tape().enqueue(is_async=True).start(after_ms=2500.0, resolved=RESOLVED)
    return finished(denoised(encoded(tape))).events


def failed() -> list[AnyEvent]:
    """The denoiser raised in its fourth step."""
    tape = encoded(begun())
    tape.add(StageStartData(class_name="UNet2DConditionModel", device="cpu"), stage="denoise", after_ms=0.5)
    tape.steps(3, total=20)
    message = "The size of tensor a (77) must match the size of tensor b (64) at non-singleton dimension 1"
    tape.add(StageErrorData(type="RuntimeError", message=message), stage="denoise", after_ms=12.0)
    error = ErrorInfo(
        type="RuntimeError",
        message=message,
        hint="check cross_attention_dim of the UNet against the text encoder's hidden size",
        stage="denoise",
        traceback="Traceback (most recent call last):\n  …",
    )
    return tape.add(JobFailedData(error=error, probe=ProbeCost(overhead_ns=400_000)), after_ms=0.3).events


def cancelled() -> list[AnyEvent]:
    """Ctrl-C in the sixth step."""
    tape = encoded(begun())
    tape.add(StageStartData(device="cpu"), stage="denoise", after_ms=0.5)
    tape.steps(5, total=20)
    tape.add(StageErrorData(type="KeyboardInterrupt", message=""), stage="denoise", after_ms=20.0)
    return tape.add(JobCancelledData(reason="interrupted"), after_ms=0.3).events


def lost() -> list[AnyEvent]:
    """The worker was killed in its eleventh step; another process noticed a minute later."""
    tape = encoded(begun(is_async=True))
    tape.add(StageStartData(class_name="UNet2DConditionModel", device="cpu"), stage="denoise", after_ms=0.5)
    tape.steps(10, total=20)
    lost = JobLostData(worker_id="worker-1", reason="the lock of worker-1 is free")
    return tape.add(lost, after_ms=60_000.0).events


def one_stage() -> list[AnyEvent]:
    """A pipeline in which only `denoise` could be told apart, without memory figures."""
    tape = Tape().enqueue("").start()
    tape.add(StageStartData(), stage="denoise")
    for index in range(4):
        tape.add(StepData(index=index, start_t_ns=tape.t_ns), stage="denoise", after_ms=3.0)
    return tape.add(StageEndData(), stage="denoise").add(JobFinishedData()).events


def long_run(steps: int = 2_000) -> list[AnyEvent]:
    return finished(denoised(encoded(begun()), steps=steps, step_ms=5.0)).events


def warned() -> list[AnyEvent]:
    """Two text encoders, one called twice; long names, a warning, dropped events, two devices."""
    components = {**RESOLVED.components, "unet": ComponentFacts(class_name="UNet", device="cuda:0", dtype="float16")}
    resolved = Resolved(pipeline_class="MadeUpVideoToVideoPipeline", components=components)
    tape = (
        Tape()
        .enqueue(model="/home/someone/models/a-rather-long-folder-name/checkpoint-000123")
        .start(resolved=resolved)
    )
    warning = WarningData(code="sample_thread_late", message="a memory sample came 80 ms late", hint="close other work")
    tape.stage("text_encoder", 80.0, device="cpu").stage("text_encoder", 81.0, device="cpu")
    tape.stage("image_conditioning_encoder_with_a_long_name", 90.0, device="cuda:0").add(warning)
    denoised(tape, 60, 12.0)
    tape.stage("vae_decode", 61.0)
    return tape.add(JobFinishedData(probe=ProbeCost(overhead_ns=60 * MS, events_dropped=3)), after_ms=0.6).events


def report_of(events: list[AnyEvent]) -> RunReport:
    return report.fold(events, job_id="job-1")


ALL = {run.__name__: run for run in (normal, cached, submitted, failed, cancelled, lost, one_stage, warned)}
