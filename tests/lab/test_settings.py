"""Presets and settings: each does what it says and is shown in `config_resolved`, or is refused."""

from __future__ import annotations

import _thread
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from msgspec.structs import replace
from torch._dynamo.utils import counters

from omnirt_lab import GenerateResult, Lab, Validation
from omnirt_lab.errors import InvalidRequestError, NotAvailableError, UnknownModelError, UnknownOptionError
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.setup import Setup
from omnirt_lab.records import AnyEvent, Config, Step
from tests.pipelines import tiny

PROMPT = "a red circle on a blue background"
QUICK = {"steps": 2, "seed": 7, "progress": False}
FLUX = {"width": 64, "height": 64, "steps": 12, "seed": 7, "progress": False, "max_sequence_length": tiny.MAX_TOKENS}
CACHES: dict[str, dict[str, Any]] = {
    "first_block": {"threshold": 0.5},
    "taylorseer": {"cache_interval": 4},
    "magcache": {"mag_ratios": [1.0] * 12, "retention_ratio": 0.1},
    "pab": {},
}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    for family in ("flux", "sd3"):
        tiny.build(family).save_pretrained(root / family)
    return {family: str(root / family) for family in ("flux", "sd3")}


def _pipeline(model: str = "tiny-shapes", **config: Any) -> Any:
    """The resident pipeline that a run with this configuration has used."""
    with RESOURCES.residency.use(get_model(model), task="text2image", setup=Setup.of(Config(**config))) as resident:
        assert not resident.loaded_now
        return resident.pipeline


def _pixels(result: GenerateResult) -> list[bytes]:
    return [image.tobytes() for image in result.images]


class Calls:
    """Counts the calls of a module."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.count = 0
        self._handle = module.register_forward_hook(self._add)

    def _add(self, *_: object) -> None:
        self.count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("fast", {"num_inference_steps": 25, "scheduler": "dpm++"}),
        ("balanced", {"num_inference_steps": 50}),
        ("quality", {"num_inference_steps": 75}),
        ("low-vram", {"num_inference_steps": 50, "vae_slicing": True, "vae_tiling": True}),
    ],
)
def test_a_preset_stands_over_the_models_defaults_and_under_the_users_own(
    lab: Lab, preset: str, expected: dict[str, Any]
) -> None:
    own = {"steps": 4, "scheduler": "euler", "vae_slicing": False, "vae_tiling": False}

    alone = lab.validate(PROMPT, preset=preset, device="cpu").config_resolved
    under = lab.validate(PROMPT, preset=preset, device="cpu", **own).config_resolved

    assert expected | {"preset": preset} == {name: alone[name] for name in [*expected, "preset"]}
    assert (under["num_inference_steps"], under["scheduler"], under["vae_slicing"]) == (4, "euler", False)


def test_a_presets_values_are_what_the_run_had(lab: Lab) -> None:
    small = {"seed": 1, "progress": False, "device": "cpu", "width": 16, "height": 16}

    report = lab.generate(PROMPT, **small, preset="fast").report

    assert len(report.steps) == report.config_resolved["num_inference_steps"] == 25
    assert report.scheduler_config["_class_name"] == "DPMSolverMultistepScheduler"
    assert report.config_resolved["preset"] == "fast"
    assert (report.request.config.preset, report.request.config.steps) == ("fast", None)
    assert lab.replay(report, progress=False).verdict == "bit_exact"


def test_a_preset_leaves_a_scheduler_out_that_does_not_fit(lab: Lab, models: dict[str, str]) -> None:
    resolved = lab.validate(PROMPT, model=models["flux"], preset="fast").config_resolved

    assert "scheduler" not in resolved


def test_vae_slicing_decodes_picture_by_picture_and_is_gone_afterwards(lab: Lab) -> None:
    two = {**QUICK, "num_images": 2}
    lab.generate(PROMPT, **two)
    vae = _pipeline().vae

    with Calls(vae.decoder) as sliced:
        report = lab.generate(PROMPT, **two, vae_slicing=True).report
    with Calls(vae.decoder) as whole:
        lab.generate(PROMPT, **two)

    assert (sliced.count, whole.count) == (2, 1)
    assert report.config_resolved["vae_slicing"] is True
    assert vae.use_slicing is False


def test_vae_tiling_decodes_a_large_picture_tile_by_tile(lab: Lab) -> None:
    large = {**QUICK, "width": 128, "height": 128}
    lab.generate(PROMPT, **large)

    with Calls(_pipeline().vae.decoder) as tiles:
        report = lab.generate(PROMPT, **large, vae_tiling=True).report

    assert tiles.count > 1
    assert report.config_resolved["vae_tiling"] is True


def test_channels_last_is_another_resident_pipeline_and_changes_no_other(lab: Lab) -> None:
    before = lab.generate(PROMPT, **QUICK)

    changed = lab.generate(PROMPT, **QUICK, channels_last=True)

    weight = _pipeline(channels_last=True).unet.conv_in.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not _pipeline().unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert changed.report.config_resolved["channels_last"] is True
    assert _pixels(lab.generate(PROMPT, **QUICK)) == _pixels(before)


def test_compile_compiles_the_denoiser_and_nothing_falls_back(lab: Lab, models: dict[str, str]) -> None:
    torch._dynamo.reset()
    counters.clear()

    report = lab.generate(PROMPT, **{**FLUX, "steps": 1}, model=models["flux"], compile="eager").report

    assert counters["stats"]["unique_graphs"] > 0
    assert report.config_resolved["compile"] == "eager"
    assert len(report.steps) == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", list(CACHES))
def test_a_denoiser_cache_reports_the_calls_that_it_really_spared_and_is_gone_afterwards(
    lab: Lab, models: dict[str, str], kind: str
) -> None:
    flux = {**FLUX, "model": models["flux"]}
    plain = lab.generate(PROMPT, **flux)
    inside = _pipeline(models["flux"]).transformer.single_transformer_blocks[-1].attn.to_q
    before = lab.cache.stats().get(f"denoiser_{kind}", {})

    with Calls(inside) as computed:
        report = lab.generate(PROMPT, **flux, denoiser_cache=kind, denoiser_cache_options=CACHES[kind]).report

    (use,) = [use for use in report.cache_details if use.cache_type == f"denoiser_{kind}"]
    assert use.calls == 12
    assert 0 < use.hits == 12 - computed.count
    assert use.saved_ms is not None
    figures = lab.cache.stats()[f"denoiser_{kind}"]
    assert (figures["calls"] - before.get("calls", 0), figures["hits"] - before.get("hits", 0)) == (12, use.hits)
    assert f"denoiser_{kind}" in report.cache_hits
    assert report.config_resolved["denoiser_cache"]["kind"] == kind
    assert report.warnings == ()
    assert [stage.cache_type for stage in report.stages if stage.name == "denoise"] == [None], "it was not all cached"
    assert _pixels(lab.generate(PROMPT, **flux)) == _pixels(plain)


def test_after_an_interrupt_a_denoiser_cache_draws_the_same_picture_again(lab: Lab, models: dict[str, str]) -> None:
    cached = {**FLUX, "model": models["flux"], "denoiser_cache": "taylorseer"}
    first = lab.generate(PROMPT, **cached)

    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 4:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        lab.generate(PROMPT, **cached, on_event=interrupt)

    assert _pixels(lab.generate(PROMPT, **cached)) == _pixels(first)


def test_a_denoiser_cache_that_spares_nothing_says_so(lab: Lab, models: dict[str, str]) -> None:
    options = {"threshold": 0.0}

    report = lab.generate(
        PROMPT, **FLUX, model=models["flux"], denoiser_cache="first_block", denoiser_cache_options=options
    ).report

    assert [warning.code for warning in report.warnings] == ["denoiser_cache_unused"]
    assert "denoiser_first_block" not in report.cache_hits


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"preset": "turbo"}, InvalidRequestError, "preset"),
        ({"offload": "model", "device": "cpu"}, NotAvailableError, "needs a GPU"),
        ({"offload": "sequential", "device": "cpu"}, NotAvailableError, "needs a GPU"),
        ({"offload": "group", "device": "cpu"}, NotAvailableError, "needs a GPU"),
        ({"device_map": "balanced", "device": "cpu"}, NotAvailableError, "needs a GPU"),
        ({"device_map": "sideways"}, InvalidRequestError, "sideways"),
        ({"device_map": "balanced", "offload": "model"}, InvalidRequestError, "both place"),
        ({"quantization": "nf4", "device": "cpu"}, NotAvailableError, "nf4"),
        ({"quantization": "int3"}, InvalidRequestError, "int3"),
        ({"compile": "no-such-backend"}, InvalidRequestError, "no-such-backend"),
        ({"denoiser_cache": "first_block"}, NotAvailableError, "first_block"),
        ({"denoiser_cache": "pab"}, NotAvailableError, "pab"),
        ({"denoiser_cache": "wishful"}, InvalidRequestError, "wishful"),
        ({"denoiser_cache_options": {"threshold": 1.0}}, InvalidRequestError, "without denoiser_cache"),
    ],
)
def test_what_cannot_be_done_here_is_a_clear_error_and_leaves_nothing(
    lab: Lab, options: dict[str, object], error: type[Exception], said: str
) -> None:
    for act in (lab.validate, lab.generate):
        with pytest.raises(error, match=said) as caught:
            act(PROMPT, **options)
        assert caught.value.hint

    assert len(lab.history()) == 0


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("flux", {"denoiser_cache": "first_block", "denoiser_cache_options": {"limit": 1.0}}, "limit"),
        ("flux", {"denoiser_cache": "magcache"}, "mag_ratios"),
        ("sd3", {"denoiser_cache": "first_block"}, "StableDiffusion3Pipeline"),
    ],
)
def test_a_cache_that_lacks_something_is_refused_before_anything_is_loaded(
    lab: Lab, models: dict[str, str], model: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        lab.validate(PROMPT, model=models[model], **options)


def without_free_memory(validation: Validation) -> Validation:
    """All but what other processes change from one moment to the next."""
    return replace(validation, memory=tuple(replace(need, available_bytes=0) for need in validation.memory))


def test_validate_says_what_a_run_would_be_and_loads_and_writes_nothing(lab: Lab, state_dir: Path) -> None:
    lab.cache.clear()
    before = lab.cache.stats()["resident_pipeline"]

    validation = lab.validate(PROMPT, steps=7, width=64, height=32, device="cpu")

    assert isinstance(validation, Validation)
    assert validation.pipeline_class == "StableDiffusionPipeline"
    assert (validation.device, validation.dtype) == ("cpu", "float32")
    assert (validation.config_resolved["num_inference_steps"], validation.config_resolved["height"]) == (7, 32)
    assert validation.config_resolved["guidance_scale"] == 7.5, "the call's own default"
    assert validation.weight_file_bytes > 1_000_000
    assert "StableDiffusionPipeline on cpu in float32" in str(validation)
    again = lab.generate(PROMPT, dry_run=True, steps=7, width=64, height=32, device="cpu")
    assert without_free_memory(again) == without_free_memory(validation)
    assert lab.cache.stats()["resident_pipeline"] == before
    assert not state_dir.exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "no-such-model"}, UnknownModelError),
        ({"steps": 0}, InvalidRequestError),
        ({"ste": 1}, UnknownOptionError),
    ],
)
def test_validate_raises_what_generate_would(lab: Lab, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        lab.validate(PROMPT, **options)


def test_the_denoisers_weights_are_held_in_fewer_bits_where_torchao_is_installed(
    lab: Lab, models: dict[str, str]
) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")

    report = lab.generate(PROMPT, **FLUX, model=models["flux"], quantization="int8").report

    weight = _pipeline(models["flux"], quantization="int8").transformer.transformer_blocks[0].attn.to_q.weight
    assert "Int8" in type(weight).__name__ or "AffineQuantized" in type(weight).__name__
    assert report.config_resolved["quantization"] == "int8"
    facts = report.components["transformer"]
    assert facts.dtype == "float32+int8"
    assert facts.parameter_bytes < 2 * facts.parameter_count


@needs_gpu
@pytest.mark.cuda
@pytest.mark.parametrize("offload", ["model", "sequential", "group"])
def test_offloaded_weights_are_on_the_gpu_only_while_they_are_needed(lab: Lab, offload: str) -> None:
    report = lab.generate(PROMPT, **QUICK, offload=offload).report

    assert set(report.device_placement.values()) == {"cuda:0 (offloaded)"}
    assert report.config_resolved["offload"] == offload
