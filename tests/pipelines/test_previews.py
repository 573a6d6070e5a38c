"""Previews: pictures of the prediction while a run lasts, which cost it next to nothing and change nothing of it."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from diffusers import DiffusionPipeline
from PIL import Image

import omnirt_lab
from omnirt_lab.pipelines.clean_prediction import SolverStep
from omnirt_lab.pipelines.preview_decoding import MAX_PX, VaeDecoder, find_decoder
from omnirt_lab.pipelines.previews import COSTS, INTERVAL_NS, PreviewCosts, Previews, Progress
from omnirt_lab.pipelines.probe import Probe, Reading
from omnirt_lab.records import StageEnd, Step, Warned
from omnirt_lab.units import NS_PER_MS, NS_PER_S
from tests.pipelines import tiny
from tests.pipelines.recording import RecordingSink
from tests.pipelines.test_probe import attributes_of

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
CPU = torch.device("cpu")
PICTURED = ["sd", "sdxl", "sd3", "flux"]


class FakeClockSink(RecordingSink):
    """Time passes only when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.t_ns = 0

    def now_ns(self) -> int:
        return self.t_ns


class Viewer:
    """Keeps what it is shown; `broken` raises instead."""

    def __init__(self, *, wants: bool = True, broken: bool = False) -> None:
        self.shown: list[tuple[int, bytes]] = []
        self._wants, self._broken = wants, broken

    def wants_preview(self) -> bool:
        return self._wants

    def show_preview(self, content: bytes, *, media_type: str, step: int) -> None:
        assert media_type == "image/jpeg"
        if self._broken:
            raise OSError("no room")
        self.shown.append((step, content))

    @property
    def steps(self) -> list[int]:
        return [step for step, _ in self.shown]


def watched(pipeline: Any, options: dict[str, Any], viewer: Viewer | None) -> tuple[Any, FakeClockSink, Reading]:
    """Call it with a clock on which each step takes ten seconds and nothing else takes any time."""
    sink = FakeClockSink()
    COSTS.note(pipeline.vae, (1, 1), 0)

    def pass_time(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        sink.t_ns += 10 * NS_PER_S
        return values

    with Probe(pipeline).watch(sink, viewer=viewer) as reading:
        output = pipeline(**options, callback_on_step_end=pass_time)
    return tiny.picture_of(output), sink, reading


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content))) / 255


@pytest.mark.parametrize("family", PICTURED)
def test_previews_change_no_bit_and_no_random_state(pipeline: DiffusionPipeline, family: str):
    bare = tiny.picture_of(pipeline(**tiny.call_options(family, steps=6)))
    before = torch.random.get_rng_state()
    options, viewer = tiny.call_options(family, steps=6), Viewer()

    picture, _, _ = watched(pipeline, options, viewer)

    assert np.array_equal(picture, bare)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(viewer.shown) >= 2


@pytest.mark.parametrize("family", PICTURED)
def test_a_preview_is_small_and_of_the_pictures_shape(pipeline: DiffusionPipeline, family: str):
    viewer = Viewer()

    watched(pipeline, tiny.call_options(family, steps=6, height=64, width=32), viewer)

    for _, content in viewer.shown:
        picture = Image.open(io.BytesIO(content))
        assert max(picture.size) <= MAX_PX
        assert picture.height == 2 * picture.width


@pytest.mark.parametrize("family", PICTURED)
def test_the_last_preview_is_nearer_to_the_picture_than_the_first(pipeline: DiffusionPipeline, family: str):
    viewer = Viewer()

    picture, _, _ = watched(pipeline, tiny.call_options(family, steps=12), viewer)

    errors = [np.abs(pixels_of(content) - picture[0]).mean() for _, content in viewer.shown]
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("family", PICTURED)
def test_latents_are_decoded_as_the_pipeline_decodes_them(pipeline: DiffusionPipeline, family: str):
    options = {"height": 64, "width": 32}
    picture = tiny.picture_of(pipeline(**tiny.call_options(family, **options)))
    seen: list[torch.Tensor] = []
    denoiser = pipeline.components[tiny.DENOISERS[family][0]]
    listening = denoiser.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs.get("img_ids")), with_kwargs=True
    )
    final = tiny.picture_of(pipeline(**tiny.call_options(family, **options, output_type="latent")))
    listening.remove()
    decoder = find_decoder(pipeline, CPU)
    assert decoder is not None

    latents = decoder.latents(final, seen[0])

    assert latents is not None
    pixels = decoder.pixels(latents, (latents.shape[-2], latents.shape[-1]))
    assert np.allclose((pixels / 2 + 0.5).clamp(0, 1).permute(1, 2, 0), picture[0], atol=1e-5)


def test_a_late_preview_of_the_built_in_model_resembles_its_picture():
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    options = tiny.call_options("sd", steps=20, prompt="a large red circle on a blue background")
    viewer = Viewer()

    picture, _, _ = watched(pipeline, options, viewer)

    assert viewer.steps[-1] >= 18
    alike = np.corrcoef(pixels_of(viewer.shown[-1][1]).ravel(), picture[0].ravel())[0, 1]
    assert alike > 0.95


def test_larger_pictures_are_previewed_at_256_pixels():
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    viewer = Viewer()

    watched(pipeline, tiny.call_options("sd", steps=4, height=512, width=256), viewer)

    assert {pixels_of(content).shape for _, content in viewer.shown} == {(256, 128, 3)}


def test_previews_are_no_stage_and_no_part_of_a_step(sd: DiffusionPipeline, monkeypatch: pytest.MonkeyPatch):
    bare_stages = watched(sd, tiny.call_options("sd", steps=6), None)[1].stages
    costly, sink = Viewer(), FakeClockSink()
    monkeypatch.setattr("omnirt_lab.pipelines.watched_call.monotonic_ns", sink.now_ns)
    COSTS.note(sd.vae, (1, 1), 0)

    def show(content: bytes, *, media_type: str, step: int) -> None:
        costly.shown.append((step, content))
        sink.t_ns += NS_PER_MS

    def pass_time(_pipeline: Any, _step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        sink.t_ns += 10 * NS_PER_S
        return values

    costly.show_preview = show  # type: ignore[method-assign]  # takes a millisecond of the fake clock
    with Probe(sd).watch(sink, viewer=costly) as reading:
        sd(**tiny.call_options("sd", steps=6), callback_on_step_end=pass_time)

    assert [name for name in sink.stages if name not in ("prepare", "postprocess")] == [
        name for name in bare_stages if name not in ("prepare", "postprocess")
    ]
    assert {step.t_ns - step.data.start_t_ns for step in sink.of(Step)} == {10 * NS_PER_S}
    assert reading.cost.overhead_ns == len(costly.shown) * NS_PER_MS > 0


class FakeMeter:
    """Memory that is all in use by whoever asks last."""

    device = "cpu"
    kind = "rss"

    def __init__(self) -> None:
        self.peak_bytes = 0

    def read(self) -> int | None:
        return None

    def mark_peak(self) -> None:
        self.peak_bytes = 1

    def take_peak(self) -> int | None:
        return self.peak_bytes


def test_the_memory_of_a_preview_is_no_stages_peak(sd: DiffusionPipeline):
    meter, sink, viewer = FakeMeter(), FakeClockSink(), Viewer()
    COSTS.note(sd.vae, (1, 1), 0)

    def show(content: bytes, *, media_type: str, step: int) -> None:
        viewer.shown.append((step, content))
        meter.peak_bytes = 1_000

    def pass_time(_pipeline: Any, step: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        sink.t_ns += 10 * NS_PER_S
        meter.peak_bytes = max(meter.peak_bytes, 50 - step)
        return values

    viewer.show_preview = show  # type: ignore[method-assign]  # needs much memory for a moment
    with Probe(sd, meter=meter).watch(sink, viewer=viewer):
        sd(**tiny.call_options("sd", steps=6), callback_on_step_end=pass_time)

    peaks = {end.stage: end.data.peak_bytes for end in sink.of(StageEnd)}
    assert viewer.shown
    assert (peaks["denoise"], peaks["vae_decode"]) == (50, 1)


def test_nothing_is_left_on_the_pipeline(sd: DiffusionPipeline):
    watched(sd, tiny.call_options("sd"), None)
    before = attributes_of(sd)

    watched(sd, tiny.call_options("sd", steps=6), Viewer())

    assert attributes_of(sd) == before
    assert not any(parameter.grad is not None for parameter in sd.vae.parameters())


def test_nobody_gets_what_nobody_wants(sd: DiffusionPipeline):
    viewer = Viewer(wants=False)

    watched(sd, tiny.call_options("sd", steps=6), viewer)

    assert not viewer.shown


def test_an_unknown_scheduler_gives_no_preview(sd: DiffusionPipeline):
    class OwnScheduler(diffusers.DDIMScheduler):
        """May step in another way."""

    sd.scheduler = OwnScheduler.from_config(sd.scheduler.config)
    viewer = Viewer()

    watched(sd, tiny.call_options("sd", steps=6), viewer)

    assert not viewer.shown


def test_an_unknown_family_gives_no_preview():
    viewer = Viewer()

    watched(tiny.build("wan"), tiny.call_options("wan", steps=6), viewer)

    assert not viewer.shown


def test_a_vae_that_a_decode_would_disturb_is_left_alone(sd: DiffusionPipeline):
    assert find_decoder(sd, CPU) is not None

    sd.vae.decoder.register_forward_hook(lambda *_: None)
    assert find_decoder(sd, CPU) is None


def test_offloaded_weights_are_not_moved_for_a_preview(sd: DiffusionPipeline):
    cpu_offload_with_hook(sd.vae, "cpu")

    assert find_decoder(sd, CPU) is None
    assert find_decoder(tiny.build("sd"), torch.device("meta")) is None


def test_half_precision_that_would_overflow_is_not_decoded():
    sdxl = tiny.build("sdxl")
    sdxl.vae.half()

    assert find_decoder(sdxl, CPU) is None


def test_a_failed_preview_is_the_last_and_the_run_goes_on(sd: DiffusionPipeline):
    bare = tiny.picture_of(sd(**tiny.call_options("sd", steps=6)))

    picture, sink, _ = watched(sd, tiny.call_options("sd", steps=6), Viewer(broken=True))

    assert np.array_equal(picture, bare)
    assert [warning.data.code for warning in sink.of(Warned)] == ["preview_failed"]


class CostlyDecoder(VaeDecoder):
    """Decodes like the VAE's, in a given time of the fake clock."""

    def __init__(self, vae: Any, sink: FakeClockSink, cost_ns: int) -> None:
        super().__init__(vae, is_packed=False)
        self._sink, self._cost_ns = sink, cost_ns
        self.spent_ns: list[int] = []
        self.began_ns: list[int] = []

    def picture(self, latents: torch.Tensor, size: tuple[int, int]) -> bytes | None:  # noqa: ARG002  # as the VAE's
        self.began_ns.append(self._sink.t_ns)
        self.spent_ns.append(self._cost_ns)
        self._sink.t_ns += self._cost_ns
        return b"picture"


def paced(sd: Any, *, cost_ns: int, step_ns: int, steps: int) -> tuple[CostlyDecoder, FakeClockSink]:
    """A run of `steps`, each `step_ns` long, with previews that cost `cost_ns` each."""
    sink = FakeClockSink()
    decoder = CostlyDecoder(sd.vae, sink, cost_ns)
    previews = Previews(Viewer(), sink, lambda: decoder, costs=PreviewCosts())
    latents = torch.zeros(1, 4, 32, 32)
    for done in range(1, steps + 1):
        sink.t_ns += step_ns
        step = SolverStep(sd.scheduler, (latents, latents), model_output=latents, sample=latents)
        previews.solved(step, Progress(done, steps, step_ns))
        previews.show(done)
    assert previews.spent_ns == sum(decoder.spent_ns)
    return decoder, sink


@pytest.mark.parametrize("cost_ms", [1, 5, 40])
def test_previews_take_no_more_than_a_hundredth_of_the_time(sd: DiffusionPipeline, cost_ms: int):
    decoder, _ = paced(sd, cost_ns=cost_ms * NS_PER_MS, step_ns=40 * NS_PER_MS, steps=1000)

    assert decoder.began_ns
    spent_ns = 0
    for began_ns, cost_ns in zip(decoder.began_ns, decoder.spent_ns, strict=True):
        spent_ns += cost_ns
        assert spent_ns <= (began_ns + cost_ns) / 100


def test_previews_are_no_more_than_ten_a_second(sd: DiffusionPipeline):
    decoder, _ = paced(sd, cost_ns=1, step_ns=NS_PER_MS, steps=1000)

    assert min(later - earlier for earlier, later in pairwise(decoder.began_ns)) >= INTERVAL_NS


def test_a_run_too_short_for_the_expected_cost_has_no_preview(sd: DiffusionPipeline):
    decoder, _ = paced(sd, cost_ns=NS_PER_MS, step_ns=2 * NS_PER_MS, steps=5)

    assert not decoder.began_ns
