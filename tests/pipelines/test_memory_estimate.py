"""What a run needs, told from files alone, beside what it takes when it runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from omnirt_lab.errors import NotEnoughMemoryError
from omnirt_lab.pipelines.activations import CallShape, decoding_bytes
from omnirt_lab.pipelines.call_arguments import call_parameters
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.loading import get_pipeline_class
from omnirt_lab.pipelines.memory_check import memory_warnings, require_memory
from omnirt_lab.pipelines.memory_estimate import Plan, memory_needs, most_at_once
from omnirt_lab.pipelines.memory_room import host_room
from omnirt_lab.pipelines.model_index import read_config
from omnirt_lab.pipelines.stored_weights import WeightSize
from omnirt_lab.records import Config, MemoryNeed
from tests.pipelines import tiny, tiny_tasks


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for family in tiny.BUILDERS:
        tiny.build(family).save_pretrained(root / family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its VAE normalises weights in the old way
        tiny_tasks.build_stable_audio().save_pretrained(root / "audio")
    return {path.name: path for path in root.iterdir()}


def _plan(folder: Path, **config: Any) -> Plan:
    model = get_model(str(folder))
    accepted = call_parameters(get_pipeline_class(model, model.tasks[0]))
    return Plan(source=model, config=Config(**config), device=torch.device("cpu"), accepted=accepted)


def _need(folder: Path, **config: Any) -> MemoryNeed:
    (need,) = memory_needs(_plan(folder, **config))
    return need


def _activations(folder: Path, **config: Any) -> int:
    needed = _need(folder, **config).activation_bytes
    assert needed is not None
    return needed


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_larger_pictures_need_more_and_fewer_bits_less(folders, family):
    small = _activations(folders[family], width=512, height=512)

    assert _activations(folders[family], width=1024, height=1024) > 2 * small
    assert _activations(folders[family], width=512, height=512, num_images=4) > 2 * small
    assert _need(folders[family], dtype="bfloat16").weight_bytes == _need(folders[family]).weight_bytes // 2


def test_a_sliced_and_tiled_decoding_needs_less(folders):
    asked = {"width": 1024, "height": 1024, "num_images": 4}
    shape = CallShape(width_px=1024, height_px=1024, frames=1, rows=4, is_guided=True, dtype="float32")
    vae = read_config(folders["sd"] / "vae")
    whole, sliced, tiled = (
        decoding_bytes(shape_, vae)
        for shape_ in (
            shape,
            CallShape(**{**vars(shape), "vae_slicing": True}),
            CallShape(**{**vars(shape), "vae_tiling": True}),
        )
    )

    assert whole > 2 * sliced
    assert sliced > tiled
    assert _activations(folders["sd"], **asked, vae_tiling=True) <= _activations(folders["sd"], **asked)


def test_a_decoding_in_fewer_bits_needs_less_unless_it_is_upcast(folders):
    shape = {"width_px": 1024, "height_px": 1024, "frames": 1, "rows": 1, "is_guided": True}
    vae = read_config(folders["sdxl"] / "vae") | {"force_upcast": True}
    float32, bfloat16, float16 = (
        decoding_bytes(CallShape(**shape, dtype=dtype), vae) for dtype in ("float32", "bfloat16", "float16")
    )

    assert bfloat16 < float16 == float32


def test_more_frames_of_a_video_need_more(folders):
    sizes = {"width": 256, "height": 256}

    assert _activations(folders["wan"], **sizes, num_frames=81) > _activations(folders["wan"], **sizes, num_frames=17)


@pytest.mark.parametrize(
    ("offload", "together"),
    [(None, (230, 60)), ("model", (100, 15)), ("sequential", (30, 60)), ("group", (30, 60))],
)
def test_offload_leaves_the_largest_component_or_layer_on_the_gpu(offload, together):
    sizes = {"unet": WeightSize(100, 10), "vae": WeightSize(20, 5), "text_encoder": WeightSize(110, 30)}

    assert most_at_once(sizes, {"unet": 15, "vae": 60}, Config(offload=offload)) == together


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_and_the_host_need_what_each_holds(folders):
    plan = _plan(folders["sd"])
    whole = memory_needs(plan)[0].weight_bytes

    (plain,) = memory_needs(plan.changed(device="cuda"))
    on_gpu, on_host = memory_needs(plan.changed(device="cuda", offload="model"))

    assert plain.weight_bytes == on_host.weight_bytes == whole > on_gpu.weight_bytes


def test_of_a_family_that_was_never_measured_only_the_weights_are_told(folders):
    need = _need(folders["audio"])

    assert need.weight_bytes > 10_000
    assert need.activation_bytes is None


def test_what_certainly_does_not_fit_is_refused_with_what_would(folders):
    plan = _plan(folders["sd"], width=8192, height=8192, num_images=8)

    with pytest.raises(NotEnoughMemoryError, match=r"needs at least [\d.]+ TiB|GiB") as caught:
        require_memory(plan)

    assert "memory_check=False" in caught.value.hint
    assert "width=1024" in caught.value.hint or "width=2048" in caught.value.hint or "width=512" in caught.value.hint


def test_what_is_proposed_is_not_refused_itself(folders):
    plan = _plan(folders["sd"], width=8192, height=8192, num_images=8)
    fitting = plan.changed(width=512, height=512)

    require_memory(fitting)
    assert all(need.total_bytes <= need.available_bytes for need in memory_needs(fitting))


def test_what_may_not_fit_is_a_warning_and_no_refusal(folders):
    plan = _plan(folders["sd"], width=1024, height=1024)
    (need,) = memory_needs(plan)
    side, room = 1024, need.available_bytes
    while need.total_bytes <= room:  # between what is estimated and a third of it, whatever this machine has
        side += 256
        plan = plan.changed(width=side, height=side)
        (need,) = memory_needs(plan)
    tight = Plan(plan.source, plan.config, plan.device, plan.accepted)

    require_memory(tight)
    (warning,) = memory_warnings(tight, (need,))

    assert warning.code == "memory_may_not_suffice"
    assert "fits with" in (warning.hint or "")


@pytest.mark.parametrize("version", [1, 2])
def test_a_lower_limit_of_a_cgroup_counts(tmp_path: Path, version: int):
    mib = 2**20
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    root = tmp_path / "cgroup"
    group = (root / "memory" if version == 1 else root) / "outer" / "inner"
    group.mkdir(parents=True)
    for name, value in zip(names, (64 * mib, 48 * mib), strict=True):
        (group.parent / name).write_text(f"{value}\n")
    (group.parent / "memory.stat").write_text(f"inactive_file {8 * mib}\ntotal_inactive_file {8 * mib}\n")
    own = tmp_path / "self"
    own.write_text("4:cpu,memory:/outer/inner\n" if version == 1 else "0::/outer/inner\n")

    room = host_room(root=root, own=own)

    assert (room.capacity_bytes, room.available_bytes) == (64 * mib, 24 * mib)


def test_without_a_cgroup_the_machine_is_all_there_is(tmp_path: Path):
    room = host_room(root=tmp_path, own=tmp_path / "none")

    assert 0 < room.available_bytes < room.capacity_bytes
