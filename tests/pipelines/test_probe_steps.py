"""What a step is, with the solvers and loops that pipelines really have."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    StableDiffusionImg2ImgPipeline,
    UNet2DModel,
)
from PIL import Image

from omnirt_lab.errors import JobCancelledError
from omnirt_lab.pipelines.probe import Probe
from omnirt_lab.records import Step
from tests.pipelines import tiny
from tests.pipelines.recording import RecordingSink

SCHEDULE = {"beta_schedule": "scaled_linear", "steps_offset": 1}


def watch(pipeline: DiffusionPipeline, **options: Any) -> tuple[Any, RecordingSink]:
    sink = RecordingSink()
    with Probe(pipeline).watch(sink):
        output = pipeline(**options)
    return output, sink


class BarlessPipeline(DiffusionPipeline):
    """A loop without a progress bar, on components that Stable Diffusion lends."""

    def __init__(self, unet: torch.nn.Module, vae: torch.nn.Module, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, *, copies_scheduler: bool = False) -> torch.Tensor:
        scheduler = copy.deepcopy(self.scheduler) if copies_scheduler else self.scheduler
        scheduler.set_timesteps(3)
        latents = torch.ones(1, 4, 16, 16)
        text = torch.ones(1, 4, tiny.TEXT_DIM)
        for timestep in scheduler.timesteps:
            noise = self.unet(latents, timestep, text).sample
            latents = scheduler.step(noise, timestep, latents).prev_sample
        return self.vae.decode(latents).sample


@pytest.fixture
def barless(sd: DiffusionPipeline) -> BarlessPipeline:
    return BarlessPipeline(sd.unet, sd.vae, sd.scheduler)


@pytest.mark.parametrize("scheduler", [EulerAncestralDiscreteScheduler(**SCHEDULE), DDIMScheduler(**SCHEDULE)])
def test_a_watched_step_still_takes_the_call_s_generator_and_eta(sd: DiffusionPipeline, scheduler: SchedulerMixin):
    """Pipelines ask the step's signature; noise that is not drawn from the generator is another each time."""
    sd.scheduler = scheduler
    options = {"eta": 1.0} if isinstance(scheduler, DDIMScheduler) else {}
    bare = sd(**tiny.call_options("sd", **options)).images

    watched, _ = watch(sd, **tiny.call_options("sd", **options))

    assert np.array_equal(bare, watched.images)


def test_two_solver_calls_of_heun_are_one_step(sd):
    sd.scheduler = HeunDiscreteScheduler(**SCHEDULE)

    _, sink = watch(sd, **tiny.call_options("sd", steps=3))

    assert [event.data.solver_calls for event in sink.of(Step)] == [2, 2, 1]
    assert [event.data.total for event in sink.of(Step)] == [3, 3, 3]


def test_the_extra_solver_call_of_pndm_belongs_to_its_first_step(sd):
    sd.scheduler = PNDMScheduler(skip_prk_steps=True, **SCHEDULE)

    _, sink = watch(sd, **tiny.call_options("sd", steps=3))

    assert [event.data.solver_calls for event in sink.of(Step)] == [2, 1, 1]


def test_a_bar_that_is_iterated_gives_its_steps_and_ends_the_denoising():
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    for pipeline in (DDPMPipeline(unet, DDPMScheduler()), DDIMPipeline(unet, DDIMScheduler())):
        pipeline.set_progress_bar_config(disable=True)

        _, sink = watch(pipeline, num_inference_steps=3, output_type="np")

        assert [(event.data.index, event.data.total) for event in sink.of(Step)] == [(0, 3), (1, 3), (2, 3)]
        assert sink.stages.count("denoise") == 1


def test_a_shown_bar_counts_as_it_always_does(sd, capsys):
    sd.set_progress_bar_config(disable=False)

    watch(sd, **tiny.call_options("sd"))

    assert "4/4" in capsys.readouterr().err


def test_without_a_bar_the_denoiser_opens_the_stage_and_the_last_step_ends_it(barless):
    _, sink = watch(barless)

    assert [name for name in sink.stages if name not in ("prepare", "postprocess")] == ["denoise", "vae_decode"]
    assert [(event.data.index, event.data.total) for event in sink.of(Step)] == [(0, None), (1, None), (2, None)]
    end_ns = next(end_ns for name, _, end_ns in sink.spans() if name == "denoise")
    assert sink.of(Step)[-1].t_ns <= end_ns


def test_a_copied_scheduler_steps_itself(barless):
    bare = barless(copies_scheduler=True)
    own = barless.scheduler

    output, sink = watch(barless, copies_scheduler=True)

    assert torch.equal(output, bare)
    assert len(sink.of(Step)) == 3
    assert "step" not in vars(own)


def test_a_scheduler_copied_during_a_watched_call_works_on_after_it(barless):
    copies = []
    barless.unet.register_forward_hook(lambda *_: copies.append(copy.deepcopy(barless.scheduler)))
    _, sink = watch(barless)
    seen = len(sink.events)

    stepped = copies[-1].step(torch.ones(1), copies[-1].timesteps[-1], torch.ones(1)).prev_sample

    assert torch.isfinite(stepped).all()
    assert len(sink.events) == seen


def test_a_pipeline_without_a_bar_can_be_cancelled(barless):
    sink = RecordingSink()

    with pytest.raises(JobCancelledError), Probe(barless).watch(sink, should_stop=lambda: len(sink.of(Step)) == 1):
        barless()

    assert sink.errors == [("denoise", "JobCancelledError")]


def test_image_to_image_encodes_first(sd):
    pipeline = StableDiffusionImg2ImgPipeline(**sd.components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    options = {
        "prompt": "a red circle",
        "image": Image.new("RGB", (64, 64), "red"),
        "num_inference_steps": 4,
        "strength": 0.5,
        "output_type": "np",
    }
    bare = pipeline(**options, generator=torch.Generator().manual_seed(1)).images

    output, sink = watch(pipeline, **options, generator=torch.Generator().manual_seed(1))

    assert np.array_equal(output.images, bare)
    stages = [name for name in sink.stages if name not in ("prepare", "postprocess")]
    assert stages == ["text_encoder", "text_encoder", "vae_encode", "denoise", "vae_decode"]
    assert len(sink.of(Step)) == 2


def test_both_transformers_of_wan_work_in_one_denoising():
    pipeline = tiny.build("wan")

    _, sink = watch(pipeline, **tiny.call_options("wan"))

    assert sink.stages.count("denoise") == 1
    assert len(sink.of(Step)) == 4
