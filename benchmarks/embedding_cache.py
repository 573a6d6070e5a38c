"""What the text-embedding cache saves when a prompt is repeated: bare and through the cache, in turn.

The first case is the built-in model, whose encoder takes next to nothing: there the cache must cost nothing.
The second case has a text encoder that is large beside the denoiser and few steps, as distilled models with a T5 have.
Each pair of calls has the same seed and must draw the same picture; the figure is the median of the pairs' ratios,
by processor time of all threads: the calls wait for nothing, and other processes do not count.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from diffusers import DiffusionPipeline
from report import emit_report
from transformers import CLIPTextConfig, CLIPTextModel

from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.pipelines.residency import ResidencyCache
from omnirt_lab.pipelines.text_embeddings import TextEmbeddingCache
from omnirt_lab.records import EventData

PAIRS = int(os.environ.get("PAIRS", "20"))
LARGE_ENCODER = {"num_hidden_layers": 24, "intermediate_size": 8_192}
MIN_SPEED_UP_LARGE = 1.2
MIN_SPEED_UP_SMALL = 0.97


class NoEvents:
    """A sink that keeps nothing: the cache is measured, not the journal."""

    def emit(self, data: EventData, *, stage: str | None = None, t_ns: int | None = None) -> None:
        """Forget the event."""

    def together(self) -> AbstractContextManager[None]:
        """Nothing to gather."""
        return nullcontext()

    def now_ns(self) -> int:
        """Monotonic nanoseconds."""
        return time.perf_counter_ns()


def load() -> DiffusionPipeline:
    with ResidencyCache().use(get_model("tiny-shapes"), task="text2image", device="cpu") as resident:
        return resident.pipeline


def with_large_encoder(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """The same model behind an encoder of 24 wide layers with random weights; its pictures show nothing."""
    config = CLIPTextConfig(**(pipeline.text_encoder.config.to_dict() | LARGE_ENCODER))
    pipeline.register_modules(text_encoder=CLIPTextModel(config).eval())
    return pipeline


def drawn_in(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start_ns = time.process_time_ns()
    picture = call()
    return (time.process_time_ns() - start_ns) / 1e6, picture


def measure(name: str, pipeline: DiffusionPipeline, *, steps: int) -> dict[str, object]:
    cache = TextEmbeddingCache()
    probe = Probe(pipeline, interceptors=[cache])

    def bare(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        options = {"num_inference_steps": steps, "generator": generator, "output_type": "np"}
        return pipeline("a red circle on a blue background", **options).images

    def cached(seed: int) -> np.ndarray:
        with probe.watch(NoEvents()):
            return bare(seed)

    cached(0)
    bare_ms, cached_ms = [], []
    for seed in range(PAIRS):
        times = {}
        for way in (bare, cached) if seed % 2 else (cached, bare):
            times[way] = drawn_in(lambda way=way, seed=seed: way(seed))
        assert np.array_equal(times[bare][1], times[cached][1]), "the cache changed a picture"
        bare_ms.append(times[bare][0])
        cached_ms.append(times[cached][0])
    stats = cache.stats()
    assert stats.hits == stats.calls - stats.entries, "a repeated prompt was no hit"
    return {
        "case": name,
        "bare_cpu_ms": statistics.median(bare_ms),
        "repeated_cpu_ms": statistics.median(cached_ms),
        "speed_up": statistics.median(b / c for b, c in zip(bare_ms, cached_ms, strict=True)),
        "saved_ms_a_call": stats.saved_ns / 1e6 / PAIRS,
        "hits": stats.hits,
        "cache_bytes": stats.size_bytes,
    }


def main() -> None:
    torch.set_num_threads(1)
    small = measure("built-in model, 20 steps", load(), steps=20)
    large = measure("large text encoder, 4 steps", with_large_encoder(load()), steps=4)
    emit_report(
        "embedding_cache",
        [small, large],
        {
            f"large encoder: at least {MIN_SPEED_UP_LARGE} times as fast": large["speed_up"] >= MIN_SPEED_UP_LARGE,
            f"built-in model: watched and cached at least {MIN_SPEED_UP_SMALL} times as fast as bare": small["speed_up"]
            >= MIN_SPEED_UP_SMALL,
        },
    )


if __name__ == "__main__":
    main()
