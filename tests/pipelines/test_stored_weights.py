from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from omnirt_lab.errors import ModelLoadError
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import load_pipeline, resolve_placement
from omnirt_lab.pipelines.reclaiming import weight_bytes
from omnirt_lab.pipelines.stored_weights import weight_sizes
from tests.pipelines import tiny

SLACK_BYTES = 20_000
"""Buffers that are made rather than stored, and norms that float16 and bfloat16 leave in float32."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["sd", "wan"])
def test_the_headers_say_what_the_weights_take_in_memory(family, dtype, tmp_path: Path):
    tiny.build(family).save_pretrained(tmp_path / family)
    model = get_model(str(tmp_path / family))

    sizes = weight_sizes(model, dtype=dtype)

    loaded = load_pipeline(model, task=model.tasks[0], placement=resolve_placement(dtype, "cpu")).pipeline
    assert sum(size.total_bytes for size in sizes.values()) == pytest.approx(weight_bytes(loaded), abs=SLACK_BYTES)
    assert set(sizes) == {name for name, part in loaded.components.items() if isinstance(part, torch.nn.Module)}


def test_the_largest_layer_is_the_one_with_the_most_weights(tmp_path: Path):
    tiny.build("sd").save_pretrained(tmp_path)
    layers = [layer for layer in tiny.build("sd").unet.modules() if not list(layer.children())]

    size = weight_sizes(get_model(str(tmp_path)), dtype="float32")["unet"]

    largest = max(sum(4 * parameter.numel() for parameter in layer.parameters()) for layer in layers)
    assert size.largest_layer_bytes == largest


def test_quantised_denoisers_take_less_and_the_rest_as_much(tmp_path: Path):
    tiny.build("flux").save_pretrained(tmp_path)
    model = get_model(str(tmp_path))
    plain = weight_sizes(model, dtype="bfloat16")

    nf4 = weight_sizes(model, dtype="bfloat16", quantization="nf4")

    assert nf4["transformer"].total_bytes < plain["transformer"].total_bytes / 3
    assert nf4["vae"] == plain["vae"]


def test_weights_in_several_files_count_once_each(tmp_path: Path):
    pipeline = tiny.build("sd")
    pipeline.save_pretrained(tmp_path / "one")
    pipeline.save_pretrained(tmp_path / "many", max_shard_size="500KB")

    whole, sharded = (weight_sizes(get_model(str(tmp_path / name)), dtype="float32") for name in ("one", "many"))

    assert len(list((tmp_path / "many" / "unet").glob("*.safetensors"))) > 1
    assert sharded == whole


def test_what_weights_in_pickles_take_is_not_guessed(tmp_path: Path):
    tiny.build("sd").save_pretrained(tmp_path, safe_serialization=False)
    for path in tmp_path.glob("*/*.safetensors"):  # newer transformers write nothing else
        path.rename(path.with_suffix(".bin"))

    assert weight_sizes(get_model(str(tmp_path)), dtype="float32") is None


def test_a_damaged_header_is_named(tmp_path: Path):
    tiny.build("sd").save_pretrained(tmp_path)
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(b"\xff" * 64)

    with pytest.raises(ModelLoadError, match=path.name):
        weight_sizes(get_model(str(tmp_path)), dtype="float32")


def test_a_terabyte_is_measured_without_reading_it(tmp_path: Path):
    tiny.build("sd").save_pretrained(tmp_path)
    count = 2**38
    header = json.dumps({"w.weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, path.stat().st_size + 4 * count)

    assert weight_sizes(get_model(str(tmp_path)), dtype="bfloat16")["unet"].total_bytes == 2 * count
