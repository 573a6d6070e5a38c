"""Float pictures of a shared call against those of single runs, and layers whose kernels differ by the shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from omnirt_lab.pipelines.batching import shared_arguments
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import load_pipeline, resolve_placement
from omnirt_lab.pipelines.row_rounding import rounded_as_alone
from tests.pipelines import tiny

PROMPTS = tuple(f"a {colour} {shape}" for colour in ("red", "green", "blue", "yellow") for shape in ("circle", "star"))
LARGEST_DIFFERENCE = 2e-6
"""Of a colour value between 0 and 1; without rows rounded as alone, these pictures differ by 9e-6."""


@pytest.fixture(scope="module")
def tiny_shapes() -> DiffusionPipeline:
    placement = resolve_placement(device="cpu")
    pipeline = load_pipeline(get_model("tiny-shapes"), task="text2image", placement=placement).pipeline
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def sd() -> Iterator[StableDiffusionPipeline]:
    pipeline = tiny.build_sd()
    yield pipeline
    assert not any("_compiled_call_impl" in vars(module) for part in parts(pipeline) for module in part.modules())


def parts(pipeline: DiffusionPipeline) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def together(pipeline: DiffusionPipeline, **shared: object) -> np.ndarray:
    rows = [{"prompt": text, "generator": torch.Generator().manual_seed(i)} for i, text in enumerate(PROMPTS)]
    with torch.no_grad():
        pictures: np.ndarray = pipeline(**shared_arguments({"prompt": "", "generator": None, **shared}, rows)).images
    return pictures


def alone(pipeline: DiffusionPipeline, row: int, **shared: object) -> np.ndarray:
    with torch.no_grad():
        picture: np.ndarray = pipeline(PROMPTS[row], generator=torch.Generator().manual_seed(row), **shared).images[0]
    return picture


@pytest.mark.parametrize("guidance", [{}, {"guidance_scale": 1.0}], ids=["default guidance", "no guidance"])
def test_float_pictures_of_a_shared_call_are_within_2e_6_of_single_runs(
    tiny_shapes: DiffusionPipeline, guidance: dict[str, float]
) -> None:
    options = {"num_inference_steps": 4, "output_type": "np", **guidance}

    with rounded_as_alone(tiny_shapes, len(PROMPTS)):
        pictures = together(tiny_shapes, **options)

    for row, picture in enumerate(pictures):
        assert np.abs(picture - alone(tiny_shapes, row, **options)).max() <= LARGEST_DIFFERENCE


def each(call: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([call(own) for own in values.chunk(rows)])


@torch.no_grad()
def test_every_layer_gives_a_row_the_bits_that_it_gives_it_alone(tiny_shapes: DiffusionPipeline) -> None:
    rows, noise = 8, torch.Generator().manual_seed(1)
    layers = [module for module in tiny_shapes.unet.modules() if type(module) in (torch.nn.Conv2d, torch.nn.Linear)]
    inputs = [
        torch.randn(
            (16, layer.in_channels, 8, 8) if isinstance(layer, torch.nn.Conv2d) else (16, layer.in_features),
            generator=noise,
        )
        for layer in layers
    ]
    alone = [each(layer, values, rows) for layer, values in zip(layers, inputs, strict=True)]

    with rounded_as_alone(tiny_shapes, rows):
        company = [layer(values) for layer, values in zip(layers, inputs, strict=True)]

    assert all(map(torch.equal, alone, company))


@torch.no_grad()
def test_what_cannot_be_split_is_computed_whole(sd: StableDiffusionPipeline) -> None:
    layer = sd.unet.conv_in
    five, none = torch.ones(5, 4, 16, 16), torch.ones(0, 4, 16, 16)
    before = layer(five)

    with rounded_as_alone(sd, 2):
        assert torch.equal(layer(five), before)
        assert layer(none).shape[0] == 0
        assert torch.equal(layer(input=five), before)


def test_a_single_request_and_a_compiled_part_are_left_as_they_are(sd: StableDiffusionPipeline) -> None:
    sd.vae.compile(backend="eager")

    with rounded_as_alone(sd, 1):
        assert "_compiled_call_impl" not in vars(sd.unet.conv_in)
    with rounded_as_alone(sd, 2):
        assert "_compiled_call_impl" in vars(sd.unet.conv_in)
        assert "_compiled_call_impl" not in vars(sd.vae.post_quant_conv)

    del sd.vae._compiled_call_impl


def test_an_error_leaves_the_layers_as_they_were(sd: StableDiffusionPipeline) -> None:
    with pytest.raises(RuntimeError, match="channels"), rounded_as_alone(sd, 2):
        sd.unet.conv_in(torch.ones(2, 3, 8, 8))
