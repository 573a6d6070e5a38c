"""The probe on pipelines of five families: the picture, the stages, and what is left behind."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from omnirt_lab.errors import JobCancelledError
from omnirt_lab.pipelines.probe import Probe, Reading
from omnirt_lab.records import Memory, StageStart, Step
from tests.pipelines import tiny
from tests.pipelines.recording import RecordingSink


def watched(pipeline: DiffusionPipeline, options: dict[str, Any]) -> tuple[Any, RecordingSink, Reading]:
    sink = RecordingSink()
    with Probe(pipeline).watch(sink) as reading:
        output = pipeline(**options)
    return tiny.picture_of(output), sink, reading


def attributes_of(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Attribute names of the pipeline and all its components, in order, and the hooks of its modules."""
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    names = {name: list(vars(part)) for name, part in parts.items()}
    hooks = {name: (len(part._forward_hooks), len(part._forward_pre_hooks)) for name, part in parts.items()}
    return {"pipeline": list(vars(pipeline)), "scheduler": list(vars(pipeline.scheduler)), "modules": names} | hooks


def interrupt_at(step: int, error: type[BaseException]) -> Any:
    """A step callback that raises."""

    def callback(pipeline: DiffusionPipeline, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise error
        return values

    return callback


def test_a_watched_call_gives_the_same_bits(pipeline, family):
    bare = tiny.picture_of(pipeline(**tiny.call_options(family)))

    picture, _, _ = watched(pipeline, tiny.call_options(family))

    assert np.array_equal(picture, bare)


def test_every_component_that_ran_is_named(pipeline, family):
    _, sink, reading = watched(pipeline, tiny.call_options(family))

    assert set(reading.components_called) == {*tiny.ENCODERS[family], *tiny.DENOISERS[family], "vae"}
    assert {*tiny.ENCODERS[family], "denoise", "vae_decode"} <= set(sink.stages)
    assert set(sink.stages) <= {*tiny.ENCODERS[family], "denoise", "vae_decode", "prepare", "postprocess"}
    classes = {event.stage: event.data.class_name for event in sink.of(StageStart)}
    assert classes["denoise"] == type(getattr(pipeline, tiny.DENOISERS[family][0])).__name__
    assert classes["vae_decode"] == type(pipeline.vae).__name__


def test_the_stages_cover_the_call_without_overlap(pipeline, family):
    options = tiny.call_options(family, steps=8)
    sink = RecordingSink()

    with Probe(pipeline).watch(sink):
        entered_ns = sink.now_ns()
        pipeline(**options)
        left_ns = sink.now_ns()

    spans = list(sink.spans())
    assert all(earlier[2] <= later[1] for earlier, later in pairwise(spans))
    covered_ns = sum(min(end_ns, left_ns) - max(start_ns, entered_ns) for _, start_ns, end_ns in spans)
    assert covered_ns >= 0.97 * (left_ns - entered_ns)


def test_the_steps_divide_the_denoising(pipeline, family):
    _, sink, _ = watched(pipeline, tiny.call_options(family, steps=4))

    steps = [event.data for event in sink.of(Step)]
    ends = [event.t_ns for event in sink.of(Step)]
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.total for step in steps} == {4}
    assert [step.start_t_ns for step in steps[1:]] == ends[:-1]
    assert [step.timestep for step in steps] == sorted((step.timestep for step in steps), reverse=True)
    (start_ns, end_ns) = next((start, end) for name, start, end in sink.spans() if name == "denoise")
    assert start_ns <= steps[0].start_t_ns <= ends[-1] <= end_ns


def test_the_final_latents_are_summarised(pipeline, family):
    latents = pipeline(**tiny.call_options(family) | {"output_type": "latent"})[0]

    _, _, reading = watched(pipeline, tiny.call_options(family))

    assert reading.latent_stats is not None
    assert reading.latent_stats.shape == tuple(latents.shape)
    if family != "wan":  # which returns them denormalised
        assert reading.latent_stats.mean == pytest.approx(float(latents.mean()), abs=1e-6)
        assert reading.latent_stats.std == pytest.approx(float(latents.std(correction=0)), abs=1e-6)


def test_the_pipeline_is_afterwards_as_it_was(pipeline, family):
    pipeline(**tiny.call_options(family))
    before = attributes_of(pipeline)

    watched(pipeline, tiny.call_options(family))

    assert attributes_of(pipeline) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_a_step_ends_the_stage_and_leaves_the_pipeline_as_it_was(pipeline, family, error):
    bare = tiny.picture_of(pipeline(**tiny.call_options(family)))
    before = attributes_of(pipeline)
    sink = RecordingSink()
    options = tiny.call_options(family, callback_on_step_end=interrupt_at(2, error))

    with pytest.raises(error), Probe(pipeline).watch(sink) as reading:
        pipeline(**options)

    assert sink.errors == [("denoise", error.__name__)]
    assert len(sink.of(Step)) == 2
    assert reading.latent_stats is None
    assert reading.cost.overhead_ns is not None
    assert attributes_of(pipeline) == before
    assert np.array_equal(tiny.picture_of(pipeline(**tiny.call_options(family))), bare)


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae"])
def test_an_exception_in_a_component_ends_its_stage_once(sd, name):
    stage = {"unet": "denoise", "vae": "vae_decode"}.get(name, name)
    inner = next(iter(getattr(sd, name).modules())).get_submodule({"vae": "decoder"}.get(name, ""))
    handle = next(inner.children()).register_forward_pre_hook(lambda *_: 1 / 0)
    sink = RecordingSink()

    with pytest.raises(ZeroDivisionError), Probe(sd).watch(sink):
        sd(**tiny.call_options("sd"))

    handle.remove()
    assert sink.errors == [(stage, "ZeroDivisionError")]
    assert sink.stages[-1] == stage


def test_an_exception_before_any_component_belongs_to_prepare(sd):
    sink = RecordingSink()

    with pytest.raises(ValueError, match="divisible by 8"), Probe(sd).watch(sink):
        sd(**tiny.call_options("sd", height=63))

    assert sink.errors == [("prepare", "ValueError")]


def test_a_call_inside_an_except_block_is_no_failed_call(sd):
    sink = RecordingSink()

    try:
        raise ValueError
    except ValueError:
        with Probe(sd).watch(sink):
            sd(**tiny.call_options("sd"))

    assert sink.errors == []


def test_a_cancelled_call_stops_at_the_next_step(sd):
    sink = RecordingSink()
    stop = pytest.raises(JobCancelledError, match="step 2 of 4")

    with stop, Probe(sd).watch(sink, should_stop=lambda: len(sink.of(Step)) == 2):
        sd(**tiny.call_options("sd"))

    assert sink.errors == [("denoise", "JobCancelledError")]
    assert len(sink.of(Step)) == 2


def test_memory_is_read_before_the_call_and_after_every_component(sd):
    _, sink, _ = watched(sd, tiny.call_options("sd"))

    readings = [event.data for event in sink.of(Memory)]
    assert [reading.is_baseline for reading in readings].count(True) == 1
    assert readings[0].is_baseline
    assert len(readings) >= 1 + len([name for name in sink.stages if name not in ("prepare", "postprocess")])
    assert {(reading.device, reading.kind) for reading in readings} == {("cpu", "rss")}
    assert all(reading.current_bytes > 0 for reading in readings)


def test_no_sampling_thread_is_left(sd):
    before = threading.enumerate()

    watched(sd, tiny.call_options("sd"))
    with pytest.raises(ZeroDivisionError), Probe(sd).watch(RecordingSink()):
        raise ZeroDivisionError

    assert threading.enumerate() == before
