"""`execution_mode="modular"`: the families' blocks, on the weights that `legacy_call` uses."""

from __future__ import annotations

import _thread
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLAutoBlocks, StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.errors import (
    InvalidRequestError,
    JobCancelledError,
    ModelLoadError,
    NotAvailableError,
    PipelineError,
    UnknownOptionError,
    UnsupportedTaskError,
)
from omnirt_lab.executors.published import PublishedModularCall, published_call
from omnirt_lab.executors.resources import RESOURCES
from omnirt_lab.lab.results import GenerateResult
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.pipelines.modular_assembly import assemble
from omnirt_lab.pipelines.modular_blocks import find_workflow, require_modular
from omnirt_lab.pipelines.preview_decoding import find_decoder
from omnirt_lab.records import Adapter, AnyEvent, Config, GenerateRequest, Inputs, RunReport, Step
from tests.pipelines import tiny

PROMPT = "a red circle"
FAMILIES = ("sdxl", "sd3", "flux", "wan")
GUIDED: dict[str, dict[str, Any]] = {
    "sdxl": {"guidance_scale": 5.0},
    "sd3": {"guidance_scale": 7.0, "negative_prompt": ""},
    "flux": {"guidance_scale": 3.5},
    "wan": {"guidance_scale": 5.0},
}
"""What makes both modes do the same: blocks have defaults of their own, and SD3's guide against a prompt alone."""

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
ONE = {"num_images": 1, **GUIDED["sdxl"]}
OF_THE_MODE = {"error", "job_id", "parent_span_id", "batch_group_id", "warnings"}
"""Fields of a report that may be empty in either mode."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Local folders: a classic one for each family, and a modular one of SDXL."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        tiny.build(family).save_pretrained(root / family)
    modular = StableDiffusionXLAutoBlocks().init_pipeline()
    modular.update_components(**tiny.build("sdxl").components)
    modular.save_pretrained(str(root / "modular"), overwrite_modular_index=True)
    return {name: str(root / name) for name in (*FAMILIES, "modular")}


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


@pytest.fixture
def draw(lab: Lab, models: dict[str, str]) -> Callable[..., GenerateResult]:
    """Generate with a family's model, by blocks unless another mode is asked for."""

    def generate(family: str = "sdxl", **options: Any) -> GenerateResult:
        given = {
            "model": models[family],
            "task": "text2video" if family == "wan" else "text2image",
            "execution_mode": "modular",
            "steps": 2,
            "seed": 7,
            "progress": False,
            **tiny.SIZES.get(family, tiny.SIZES["sdxl"]),
        }
        return lab.generate(PROMPT, **(given | options))

    return generate


def levels(result: GenerateResult) -> np.ndarray:
    return np.asarray(result.images[0] if result.images else result.videos[0], int)


def stages(report: RunReport) -> set[str]:
    """Names of the stages; the gaps between components are too short to be told in one mode or the other."""
    return {stage.name for stage in report.stages} - {"prepare", "postprocess"}


@contextmanager
def calls_of(module: torch.nn.Module, on_call: Callable[[int], None]) -> Iterator[None]:
    """Have each call of the module counted, before it is made."""
    count = iter(range(1_000))
    hook = module.register_forward_pre_hook(lambda *_: on_call(next(count)))
    try:
        yield
    finally:
        hook.remove()


def held(family: str, models: dict[str, str]) -> DiffusionPipeline:
    task = "text2video" if family == "wan" else "text2image"
    with RESOURCES.residency.use(get_model(models[family]), task=task) as resident:
        return resident.pipeline


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_make_the_same_picture_and_the_same_report_as_the_pipeline(
    draw: Callable[..., GenerateResult], family: str
) -> None:
    classic = draw(family, execution_mode="legacy_call", **GUIDED[family])

    by_blocks = draw(family, **GUIDED[family])

    assert np.abs(levels(classic) - levels(by_blocks)).max() <= 1, "1e-6 of the value, before it is rounded to a level"
    before, report = classic.report, by_blocks.report
    assert (before.execution_mode, report.execution_mode) == ("legacy_call", "modular")
    assert stages(before) == stages(report)
    assert "denoise" in stages(report)
    assert len(report.steps) == report.steps_planned == 2
    assert report.device_placement == before.device_placement
    assert {name: facts.fingerprint for name, facts in before.components.items()}.items() <= {
        name: facts.fingerprint for name, facts in report.components.items()
    }.items()
    empty = {name for name, value in msgspec.to_builtins(report).items() if value in (None, [], {}, ())}
    assert empty <= OF_THE_MODE | {
        name for name, value in msgspec.to_builtins(before).items() if value in (None, [], {}, ())
    }
    assert "resident_pipeline" in report.cache_hits, "the weights that the pipeline has loaded"


@pytest.mark.parametrize("family", FAMILIES)
def test_previews_decode_what_the_blocks_decode(models: dict[str, str], family: str) -> None:
    pipeline = held(family, models)
    request = GenerateRequest(task="text2video" if family == "wan" else "text2image")
    by_blocks = assemble(find_workflow(type(pipeline).__name__, request, settings=dict(pipeline.config)), pipeline)

    decoder, expected = (find_decoder(each, torch.device("cpu")) for each in (by_blocks, pipeline))

    assert (decoder is None) == (expected is None) == (family == "wan")
    if decoder is not None and expected is not None:
        assert vars(decoder) == vars(expected)


def test_the_blocks_are_timed_beside_the_stages(draw: Callable[..., GenerateResult]) -> None:
    report = draw().report

    blocks = {block.name: block for block in report.blocks}
    assert list(blocks) == report.config_resolved["blocks"]
    loop = blocks["denoise.denoise"]
    assert loop.class_name == "StableDiffusionXLDenoiseStep"
    assert loop.start_t_ns <= report.steps[0].start_t_ns
    assert report.steps[-1].end_t_ns <= loop.end_t_ns
    ends = [block.end_t_ns for block in report.blocks]
    assert all(end <= block.start_t_ns for end, block in zip(ends, report.blocks[1:], strict=False))
    assert "denoise.denoise_ms" not in report.timings, "what the blocks took stands in the stages already"


def test_guidance_changes_the_picture_and_is_recorded(draw: Callable[..., GenerateResult]) -> None:
    weak, strong, default = draw(guidance_scale=2.0), draw(guidance_scale=12.0), draw()

    assert np.abs(levels(weak) - levels(strong)).max() > 1
    assert weak.report.config_resolved["guider"]["guidance_scale"] == 2.0
    assert default.report.config_resolved["guidance_scale"] == 7.5, "the blocks' own"


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_scale_of_1_or_less_switches_guidance_off_as_in_the_pipeline(
    draw: Callable[..., GenerateResult], scale: float
) -> None:
    classic = draw(execution_mode="legacy_call", guidance_scale=scale)

    assert np.abs(levels(classic) - levels(draw(guidance_scale=scale))).max() <= 1


def test_the_second_guider_follows_the_first_unless_it_has_a_scale_of_its_own(
    draw: Callable[..., GenerateResult], lab: Lab
) -> None:
    default, both, apart = draw("wan"), draw("wan", guidance_scale=6.0), draw("wan", guidance_scale_2=9.0)

    scales = [[r.report.config_resolved[name] for name in ("guidance_scale", "guidance_scale_2")]
              for r in (default, both, apart)]  # fmt: skip
    assert scales == [[5.0, 3.0], [6.0, 6.0], [5.0, 9.0]]
    assert lab.replay(default.report, progress=False).verdict == "bit_exact"


def test_blocks_that_guide_against_a_prompt_say_so_when_there_is_none(draw: Callable[..., GenerateResult]) -> None:
    unguided = draw("sd3")

    assert [warning.code for warning in unguided.report.warnings] == ["guidance_without_effect"]
    assert unguided.report.config_resolved["guidance_scale"] is None
    assert np.abs(levels(unguided) - levels(draw("sd3", negative_prompt=""))).max() > 1
    with pytest.raises(InvalidRequestError, match="guidance_scale does nothing") as caught:
        draw("sd3", guidance_scale=9.0)
    assert "negative_prompt=''" in caught.value.hint


def test_an_image_is_drawn_over_and_batches_keep_their_seeds(draw: Callable[..., GenerateResult]) -> None:
    options = {"task": "image2image", "image": NOISE, "strength": 0.9, "num_images": 2}

    classic, by_blocks = draw("flux", execution_mode="legacy_call", **options), draw("flux", **options)

    pairs = zip(classic.images, by_blocks.images, strict=True)
    assert [np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1 for a, b in pairs] == [True, True]
    assert [output.seed for output in by_blocks.outputs] == [7, 8]
    assert "vae_encode_ms" in by_blocks.report.timings
    with pytest.raises(InvalidRequestError, match="num_images"):  # its blocks want one generator for one picture
        draw("sdxl", **options)
    assert (
        np.abs(levels(draw(**options | ONE)) - levels(draw(execution_mode="legacy_call", **options | ONE))).max() <= 1
    )


def test_a_modular_folder_runs_by_its_blocks_and_is_loaded_once(draw: Callable[..., GenerateResult], lab: Lab) -> None:
    first, second = draw("modular"), draw("modular")

    assert np.array_equal(levels(first), levels(draw("sdxl")))
    assert ["resident_pipeline" in result.report.cache_hits for result in (first, second)] == [False, True]
    with pytest.raises(InvalidRequestError, match="only its blocks") as caught:
        draw("modular", execution_mode="legacy_call")
    assert "modular" in caught.value.hint
    with pytest.raises(UnsupportedTaskError):
        draw("modular", task="text2video")
    with pytest.raises(NotAvailableError, match="preset"):
        draw("modular", preset="fast")


def test_a_moved_modular_folder_is_loaded_from_where_it_is_and_a_damaged_one_is_refused(
    lab: Lab, models: dict[str, str], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(models["modular"], moved)
    index = moved / "modular_model_index.json"
    index.write_text(index.read_text().replace(models["modular"], "/nowhere"))
    options = {"model": str(moved), "execution_mode": "modular", "steps": 1, **tiny.SIZES["sdxl"], "progress": False}

    report = lab.generate(PROMPT, **options).report

    assert (report.state, report.warnings) == ("succeeded", ())
    for weights in moved.glob("unet/*.safetensors"):
        weights.unlink()
    with pytest.raises(ModelLoadError, match="unet"):
        lab.generate(PROMPT, **options)


@pytest.mark.parametrize("model", ["sdxl", "modular"])
def test_an_adapter_is_laid_over_the_weights_for_one_run(
    draw: Callable[..., GenerateResult], tmp_path: Path, model: str
) -> None:
    trained = tiny.build("sdxl").unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        trained.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(trained))
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    adapters, bare = [Adapter(source=str(tmp_path))], draw(model)

    adapted = draw(model, adapters=adapters, **GUIDED["sdxl"])

    expected = draw("sdxl", execution_mode="legacy_call", adapters=adapters, **GUIDED["sdxl"])
    assert np.abs(levels(adapted) - levels(expected)).max() <= 1
    assert np.abs(levels(adapted) - levels(draw(model, **GUIDED["sdxl"]))).max() > 1
    assert np.array_equal(levels(draw(model)), levels(bare))


def test_a_queued_job_runs_by_blocks_too(lab: Lab, models: dict[str, str]) -> None:
    job = lab.submit(PROMPT, model=models["flux"], execution_mode="modular", steps=1, **tiny.SIZES["flux"])

    report = job.result(timeout=60).report

    assert (report.state, report.execution_mode, report.job_id) == ("succeeded", "modular", job.id)


def test_what_the_blocks_do_not_take_is_refused_with_the_nearest(draw: Callable[..., GenerateResult], lab: Lab) -> None:
    with pytest.raises(UnknownOptionError, match="StableDiffusionXLModularPipeline has no option") as caught:
        draw(guidance_scal=3.0)
    assert "'guidance_scale'" in caught.value.hint
    with pytest.raises(UnknownOptionError, match="no strength"):  # image2image's blocks take it, and do not run
        draw(strength=0.5)
    with pytest.raises(NotAvailableError, match="denoiser_cache"):
        draw("flux", denoiser_cache="first_block")
    with pytest.raises(InvalidRequestError, match="timeout_s"):
        draw(timeout_s=1)
    assert len(lab.history()) == 0


def test_a_family_without_blocks_and_an_old_diffusers_are_refused_with_what_to_do(lab: Lab) -> None:
    with pytest.raises(NotAvailableError, match="no modular blocks for a StableDiffusionPipeline") as caught:
        lab.generate(PROMPT, execution_mode="modular", progress=False)
    assert "legacy_call" in caught.value.hint
    with pytest.raises(NotAvailableError, match=r"0\.36\.0 is installed") as caught:
        require_modular("0.36.0")
    assert "pip install" in caught.value.hint
    assert len(lab.history()) == 0


def test_validate_says_what_the_blocks_would_be_given(lab: Lab, models: dict[str, str]) -> None:
    foreseen = lab.validate(PROMPT, model=models["sdxl"], execution_mode="modular")

    assert foreseen.pipeline_class == "StableDiffusionXLModularPipeline"
    assert foreseen.config_resolved["guidance_scale"] == 7.5


def test_a_replay_runs_the_blocks_again(draw: Callable[..., GenerateResult], lab: Lab) -> None:
    first = draw("flux", seed=None)

    replay = lab.replay(first.report.run_id, progress=False)

    assert (replay.verdict, replay.differing_fields) == ("bit_exact", ())
    assert replay.result.report.execution_mode == "modular"
    assert "text_embedding" in replay.result.report.cache_hits


def test_a_cancel_ends_the_run_within_a_step(draw: Callable[..., GenerateResult], lab: Lab) -> None:
    def cancel(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 1:
            lab.journal.request_cancel(lab.journal.list_jobs()[0].job_id)

    with pytest.raises(JobCancelledError):
        draw(steps=50, on_event=cancel)

    report = lab.last_report()
    assert report.state == "cancelled"
    assert 2 <= len(report.steps) <= 3
    assert draw().report.state == "succeeded"


def test_ctrl_c_ends_the_run_as_cancelled_and_the_next_one_runs(draw: Callable[..., GenerateResult], lab: Lab) -> None:
    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 1:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        draw(steps=20, on_event=interrupt)

    report = lab.last_report()
    assert (report.state, report.execution_mode) == ("cancelled", "modular")
    assert draw().report.state == "succeeded"


def test_an_error_in_the_third_step_leaves_no_trace(
    draw: Callable[..., GenerateResult], lab: Lab, models: dict[str, str]
) -> None:
    expected, unet = levels(draw()), held("sdxl", models).unet
    parts = {name: set(vars(part)) for name, part in _modules(held("sdxl", models)).items()}
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = logged.append  # type: ignore[method-assign]  # a handler of one line

    def fail(call: int) -> None:
        if call == 4:  # two calls a step
            raise RuntimeError("the third step broke")

    logging.getLogger("diffusers").addHandler(handler)
    with calls_of(unet, fail), pytest.raises(PipelineError) as caught:
        draw(steps=5)
    logging.getLogger("diffusers").removeHandler(handler)

    report = lab.last_report()
    assert (report.state, len(report.steps)) == ("failed", 2)
    assert report.error is not None
    assert (report.error.type, report.error.stage) == ("RuntimeError", "denoise")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert logged == [], "the error is raised; its traceback is not printed three times besides"
    assert {name: set(vars(part)) for name, part in _modules(held("sdxl", models)).items()} == parts
    assert np.array_equal(levels(draw()), expected)


def test_a_user_s_own_modular_pipeline_keeps_its_blocks_as_they_are(draw: Callable[..., GenerateResult]) -> None:
    mine = StableDiffusionXLAutoBlocks().init_pipeline()
    loop = next(iter(_leaves(mine._blocks, "denoiser")))

    draw()

    assert type(loop).__module__.startswith("diffusers.")
    assert not hasattr(loop, "_progress_bar_config")


def test_a_published_pipeline_runs_by_blocks_on_its_own_components(lab: Lab) -> None:
    mine = tiny.build("sdxl")
    request = GenerateRequest(
        model="mine",
        inputs=Inputs(prompt=PROMPT),
        config=Config(steps=2, seed=7, width=64, height=64, execution_mode="modular"),
    )
    writer = lab.engine.start(request)

    execution = published_call(mine, writer)
    lab.engine.execute(writer, execution)

    assert isinstance(execution, PublishedModularCall)
    report = lab.last_report()
    assert (report.execution_mode, report.pipeline_class) == ("modular", "StableDiffusionXLModularPipeline")
    assert "resident_pipeline" not in report.cache_hits
    assert report.components["unet"].parameter_count == sum(p.numel() for p in mine.unet.parameters())


def _modules(pipeline: DiffusionPipeline) -> dict[str, Any]:
    return {name: part for name, part in pipeline.components.items() if name in ("unet", "vae", "scheduler")}


def _leaves(blocks: Any, name: str) -> Iterator[Any]:
    for key, block in blocks.sub_blocks.items():
        if key == name:
            yield blocks
        yield from _leaves(block, name)
