"""Runs that do not fit into memory, as a person meets them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from omnirt_lab import Lab
from omnirt_lab.errors import ModelLoadError, NotEnoughMemoryError
from omnirt_lab.executors.settings import SETTINGS
from tests.pipelines import tiny

PROMPT = "a red circle"
QUICK: dict[str, Any] = {"steps": 2, "seed": 7, "progress": False}
COUNT = 2**40
"""Weights of the model that fits nowhere: 4 TiB in float32, in a file that takes no room on the disk."""


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    before = SETTINGS.current
    yield
    SETTINGS.current = before


@pytest.fixture
def enormous(tmp_path: Path) -> Path:
    folder = tmp_path / "enormous"
    tiny.build("sd").save_pretrained(folder)
    header = json.dumps({"w.weight": {"dtype": "F32", "shape": [COUNT], "data_offsets": [0, 4 * COUNT]}}).encode()
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, path.stat().st_size + 4 * COUNT)
    return folder


def test_validate_says_what_a_run_needs_and_what_there_is(lab: Lab) -> None:
    validation = lab.validate(PROMPT)

    (need,) = validation.memory
    assert need.device == "cpu"
    assert need.weight_bytes > 10_000_000
    assert 0 < need.total_bytes < need.available_bytes <= need.capacity_bytes
    assert "memory on cpu: about 18.1 MiB of weights and " in str(validation)
    assert not validation.warnings


def test_a_model_that_cannot_fit_is_refused_before_it_is_read(lab: Lab, enormous: Path) -> None:
    with pytest.raises(NotEnoughMemoryError, match=r"does not fit into the memory of cpu.* TiB") as refused:
        lab.generate(PROMPT, model=str(enormous), **QUICK)
    with pytest.raises(NotEnoughMemoryError, match=r"4\.00 TiB of it for weights"):
        lab.validate(PROMPT, model=str(enormous))

    assert "smaller model" in refused.value.hint
    report = lab.last_report()
    assert report.state == "failed"
    assert report.error is not None
    assert report.error.type == "NotEnoughMemoryError"
    assert [stage.name for stage in report.stages] == ["load"]


def test_blocks_are_refused_it_too(lab: Lab, tmp_path: Path, enormous: Path) -> None:
    folder, name = tmp_path / "sdxl", "unet/diffusion_pytorch_model.safetensors"
    tiny.build("sdxl").save_pretrained(folder)
    (folder / name).unlink()
    (enormous / name).rename(folder / name)

    with pytest.raises(NotEnoughMemoryError, match="does not fit into the memory of cpu"):
        lab.generate(PROMPT, model=str(folder), execution_mode="modular", **QUICK)


@pytest.mark.parametrize("mode", ["legacy_call", "modular"])
def test_a_report_says_where_every_component_was_and_what_the_process_held(lab: Lab, tmp_path: Path, mode: str) -> None:
    pipeline = tiny.build("sdxl")
    pipeline.save_pretrained(tmp_path)

    report = lab.generate(PROMPT, model=str(tmp_path), execution_mode=mode, **tiny.SIZES["sdxl"], **QUICK).report

    weighty = {name for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    assert report.device_placement == dict.fromkeys(weighty, "cpu")
    assert report.memory.kind == "rss"
    assert set(report.memory.peak_bytes) == set(report.memory.baseline_bytes) == {"cpu"}
    assert report.memory.peak_bytes["cpu"] >= report.memory.baseline_bytes["cpu"] > 100_000_000


def test_who_insists_may_try(lab: Lab, enormous: Path) -> None:
    lab.configure(memory_check=False)

    validation = lab.validate(PROMPT, model=str(enormous))
    with pytest.raises(ModelLoadError):  # it does not fit its config, either
        lab.generate(PROMPT, model=str(enormous), **QUICK)

    assert [warning.code for warning in validation.warnings] == ["memory_may_not_suffice"]


def test_a_size_that_cannot_fit_is_refused_with_settings_that_would(lab: Lab) -> None:
    with pytest.raises(NotEnoughMemoryError) as refused:
        lab.generate(PROMPT, width=8192, height=8192, num_images=64, **QUICK)

    assert "By the estimate it fits with " in refused.value.hint


def test_memory_that_may_not_suffice_warns_in_a_dry_run_alone(lab: Lab) -> None:
    side = 1024
    while not (validation := lab.generate(PROMPT, width=side, height=side, dry_run=True)).warnings:
        side += 512

    assert validation.warnings[0].code == "memory_may_not_suffice"
