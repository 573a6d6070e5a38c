from __future__ import annotations

import warnings
from types import ModuleType

import pytest

from omnirt_lab.pipelines.task_classes import own_task, pipeline_class_for, tasks_of


@pytest.fixture(scope="module")
def auto_pipeline() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Kolors' import uses torch.jit.script
        from diffusers.pipelines import auto_pipeline
    return auto_pipeline


@pytest.mark.parametrize("task", ["text2image", "image2image", "inpaint"])
def test_every_class_of_the_imported_table_does_its_task(task, auto_pipeline):
    table = vars(auto_pipeline)[f"AUTO_{task.upper()}_PIPELINES_MAPPING"]
    assert len(table) > 10
    for pipeline_class in table.values():
        assert task in tasks_of(pipeline_class.__name__)
        assert pipeline_class_for(pipeline_class.__name__, task) == pipeline_class.__name__


@pytest.mark.parametrize(
    ("saved_as", "task", "expected"),
    [
        ("StableDiffusionPipeline", "image2image", "StableDiffusionImg2ImgPipeline"),
        ("StableDiffusionXLInpaintPipeline", "text2image", "StableDiffusionXLPipeline"),
        ("FluxPipeline", "inpaint", "FluxInpaintPipeline"),
        ("FluxKontextPipeline", "edit", "FluxKontextPipeline"),
        ("WanPipeline", "text2video", "WanPipeline"),
        ("WanPipeline", "text2image", None),
        ("StableDiffusionPipeline", "text2audio", None),
    ],
)
def test_a_task_has_its_class_on_the_same_weights(saved_as, task, expected):
    assert pipeline_class_for(saved_as, task) == expected


@pytest.mark.parametrize(
    ("pipeline_class", "tasks"),
    [
        ("WanPipeline", ("text2video",)),
        ("StableDiffusionInstructPix2PixPipeline", ("edit",)),
        ("CogVideoXImageToVideoPipeline", ("image2video",)),
        ("AudioLDMPipeline", ("text2audio",)),
        ("SomebodysOwnPipeline", ("text2image",)),
    ],
)
def test_a_class_in_no_table_goes_by_its_name(pipeline_class, tasks):
    assert tasks_of(pipeline_class) == tasks


@pytest.mark.parametrize(
    ("pipeline_class", "task"),
    [
        ("StableDiffusionPipeline", "text2image"),
        ("FluxImg2ImgPipeline", "image2image"),
        ("FluxFillPipeline", "inpaint"),
        ("FluxKontextPipeline", "edit"),
        ("QwenImageEditPlusPipeline", "edit"),
        ("WanImageToVideoPipeline", "image2video"),
        ("WanPipeline", "text2video"),
        ("StableAudioPipeline", "text2audio"),
        ("SomebodysOwnPipeline", "text2image"),
    ],
)
def test_a_class_has_one_task_of_its_own(pipeline_class, task):
    assert own_task(pipeline_class) == task
