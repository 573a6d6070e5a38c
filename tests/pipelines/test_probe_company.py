"""The probe beside what else changes a pipeline: compilers, offloading, adapters, interceptors, other pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionImg2ImgPipeline
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks
from peft import LoraConfig

from omnirt_lab.errors import PipelineBusyError
from omnirt_lab.pipelines.probe import Probe, Reading
from omnirt_lab.pipelines.scheduler_locks import scheduler_lock
from omnirt_lab.records import StageStart, Step
from tests.pipelines import tiny
from tests.pipelines.recording import RecordingSink


def watch(pipeline: DiffusionPipeline) -> tuple[np.ndarray, RecordingSink, Reading]:
    sink = RecordingSink()
    with Probe(pipeline).watch(sink) as reading:
        output = pipeline(**tiny.call_options("sd"))
    return tiny.picture_of(output), sink, reading


def bare(pipeline: DiffusionPipeline) -> np.ndarray:
    return tiny.picture_of(pipeline(**tiny.call_options("sd")))


class OwnCall(torch.nn.Module):
    """A component whose class overrides the call."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.dtype, self.device, self.config = inner.dtype, inner.device, inner.config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class Recall:
    """An interceptor that answers a component's second call with its first answer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Any = None

    def wants(self, name: str, module: torch.nn.Module) -> bool:  # noqa: ARG002  # the protocol's
        return name == self.name

    def __call__(self, *call_of: Any) -> Any:
        _, _, call, args, kwargs, _ = call_of
        self.answer = self.answer or call(*args, **kwargs)
        return self.answer


def test_torch_calls_what_stands_at_compiled_call_impl_first():
    module = torch.nn.Linear(1, 1)

    vars(module)["_compiled_call_impl"] = lambda *_: "intercepted"

    assert module(torch.ones(1)) == "intercepted"


def test_a_compiled_denoiser_stays_compiled(sd):
    graphs = []
    torch.compiler.reset()

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    sd.unet.compile(backend=backend, fullgraph=True)
    expected, compiled, count = bare(sd), vars(sd.unet)["_compiled_call_impl"], len(graphs)

    picture, _, reading = watch(sd)

    assert np.array_equal(picture, expected)
    assert len(graphs) == count > 0
    assert vars(sd.unet)["_compiled_call_impl"] is compiled
    assert "unet" in reading.components_called
    torch.compiler.reset()


def test_a_wrapped_compiled_denoiser_is_named_by_its_own_class(sd):
    torch.compiler.reset()
    sd.unet = torch.compile(sd.unet, backend="eager")
    expected = bare(sd)

    picture, sink, reading = watch(sd)

    assert np.array_equal(picture, expected)
    assert "unet" in reading.components_called
    classes = {event.stage: event.data.class_name for event in sink.of(StageStart)}
    assert classes["denoise"] == "UNet2DConditionModel"
    torch.compiler.reset()


def test_model_offloading_works_on(sd):
    sd.enable_model_cpu_offload(device="cpu")  # the hooks of a GPU, with the CPU as their device
    expected = bare(sd)

    pictures = [watch(sd)[0] for _ in range(2)]

    assert all(np.array_equal(picture, expected) for picture in pictures)


def test_group_offloading_works_on(sd):
    sd.unet.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type="leaf_level"
    )
    expected = bare(sd)

    picture, sink, _ = watch(sd)

    assert np.array_equal(picture, expected)
    assert "denoise" in sink.stages


def test_a_lora_works_on(sd):
    without = bare(sd)
    torch.manual_seed(0)
    sd.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    expected = bare(sd)
    assert not np.array_equal(without, expected)

    picture, _, reading = watch(sd)

    assert np.array_equal(picture, expected)
    assert reading.components_called == ("text_encoder", "unet", "vae")


def test_a_component_with_a_call_of_its_own_is_watched_by_hooks(sd):
    sd.text_encoder = OwnCall(sd.text_encoder)
    expected = bare(sd)

    picture, sink, _ = watch(sd)

    assert np.array_equal(picture, expected)
    assert sink.stages.count("text_encoder") == 2
    assert not sd.text_encoder._forward_hooks
    assert not sd.text_encoder._forward_pre_hooks


def test_a_component_that_was_replaced_between_calls_is_watched(sd):
    probe, sink = Probe(sd), RecordingSink()
    with probe.watch(sink):
        sd(**tiny.call_options("sd"))
    sd.unet = tiny.build("sd").unet

    with probe.watch(sink) as reading:
        sd(**tiny.call_options("sd"))

    assert "unet" in reading.components_called


def test_an_interceptor_stands_between_the_pipeline_and_the_component_it_wants(sd):
    runs = []
    sd.text_encoder.register_forward_hook(lambda *_: runs.append(1))
    sink = RecordingSink()

    with Probe(sd, interceptors=[Recall("text_encoder")]).watch(sink):
        sd(**tiny.call_options("sd"))

    assert len(runs) == 1
    assert sink.stages.count("text_encoder") == 2


def test_a_pipeline_that_is_being_watched_cannot_be_watched_again(sd):
    with (
        Probe(sd).watch(RecordingSink()),
        pytest.raises(PipelineBusyError, match="StableDiffusionPipeline is already running"),
        Probe(sd).watch(RecordingSink()),
    ):
        pass

    assert watch(sd)[1].errors == []


def test_a_pipeline_that_shares_components_with_a_watched_one_cannot_be_watched_either(sd):
    sibling = StableDiffusionImg2ImgPipeline.from_pipe(sd)

    with (
        Probe(sd).watch(RecordingSink()),
        pytest.raises(PipelineBusyError, match="AutoencoderKL"),
        Probe(sibling).watch(RecordingSink()),
    ):
        pass


def test_pipelines_that_share_a_scheduler_share_its_lock(sd):
    sibling = StableDiffusionImg2ImgPipeline.from_pipe(sd)

    assert scheduler_lock(sibling.scheduler) is scheduler_lock(sd.scheduler)
    assert scheduler_lock(tiny.build("sd").scheduler) is not scheduler_lock(sd.scheduler)


def test_a_modular_pipeline_is_watched_too():
    classic = tiny.build("sdxl")
    pipeline = StableDiffusionXLAutoBlocks().init_pipeline()
    pipeline.update_components(**classic.components)
    options = {"prompt": "a red circle", "num_inference_steps": 3, "height": 64, "width": 64, "output": "images"}
    expected = pipeline(**options, output_type="np", generator=torch.Generator().manual_seed(1))
    sink = RecordingSink()

    with Probe(pipeline).watch(sink) as reading:
        images = pipeline(**options, output_type="np", generator=torch.Generator().manual_seed(1))

    assert np.array_equal(images, expected)
    assert set(reading.components_called) == {"text_encoder", "text_encoder_2", "unet", "vae"}
    assert sink.stages.count("denoise") == 1
    assert len(sink.of(Step)) == 3
