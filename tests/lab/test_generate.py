"""`generate`: a prompt becomes a picture and a report, on the built-in model."""

from __future__ import annotations

import _thread
import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

import omnirt_lab
from omnirt_lab import Lab
from omnirt_lab.errors import InvalidRequestError, PipelineError, UnknownModelError, UnknownOptionError
from omnirt_lab.journal import read_png_metadata
from omnirt_lab.records import AnyEvent, Step

PROMPT = "a red circle on a blue background"
QUICK = {"steps": 3, "seed": 7, "progress": False}


def test_a_prompt_becomes_a_picture_and_a_report(lab: Lab) -> None:
    result = lab.generate(PROMPT, **QUICK)

    report = result.report
    assert result.images[0].size == (64, 64)
    assert result.metadata is report
    assert report.state == "succeeded"
    assert (report.task, report.model, report.execution_mode) == ("text2image", "tiny-shapes", "legacy_call")
    assert report.job_id is None
    assert len(report.trace_id) == 32
    assert [step.index for step in report.steps] == [0, 1, 2]
    assert {"queue_ms", "load_ms", "text_encoder_ms", "denoise_ms", "vae_decode_ms", "export_ms"} <= set(report.timings)
    assert set(report.device_placement) >= {"text_encoder", "unet", "vae"}
    assert report.memory.kind == "rss"
    assert report.memory.peak_bytes["cpu"] >= report.memory.baseline_bytes["cpu"]
    assert report.probe.overhead_ns is not None
    assert report.latent_stats is not None
    assert report.artifacts == result.outputs


def test_the_stages_cover_the_run(lab: Lab) -> None:
    report = lab.generate(PROMPT, steps=20, seed=7, progress=False).report

    covered_ms = sum(report.timings.values()) - report.timings["queue_ms"]
    assert covered_ms >= 0.97 * report.duration_ms


def test_the_same_seed_draws_the_same_picture_and_another_seed_another(lab: Lab) -> None:
    first, again = (lab.generate(PROMPT, **QUICK).images[0] for _ in range(2))
    other = lab.generate(PROMPT, **{**QUICK, "seed": 8}).images[0]

    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_picture_i_of_a_run_is_the_one_of_seed_plus_i(lab: Lab) -> None:
    several = lab.generate(PROMPT, **QUICK, num_images=2)
    alone = lab.generate(PROMPT, **{**QUICK, "seed": 8}).images[0]

    assert [artifact.seed for artifact in several.outputs] == [7, 8]
    largest = max(high for _, high in ImageChops.difference(several.images[1], alone).getextrema())
    assert largest <= 1, "a batch differs from single runs by rounding alone"


def test_a_run_without_a_seed_records_the_one_it_drew(lab: Lab) -> None:
    first = lab.generate(PROMPT, steps=2, progress=False)

    again = lab.generate(PROMPT, steps=2, progress=False, seed=first.outputs[0].seed)

    assert again.images[0].tobytes() == first.images[0].tobytes()


def test_the_second_run_of_a_prompt_reuses_its_embedding_and_the_pipeline_bit_for_bit(lab: Lab) -> None:
    lab.cache.clear()
    first = lab.generate(PROMPT, **QUICK)
    second = lab.generate(PROMPT, **QUICK)

    assert first.report.cache_hits == ()
    assert set(second.report.cache_hits) == {"resident_pipeline", "text_embedding"}
    assert all(use.saved_ms is not None for use in second.report.cache_details)
    assert first.images[0].tobytes() == second.images[0].tobytes()


@pytest.mark.parametrize(
    ("changed", "is_embedding_reused"),
    [({"steps": 4}, True), ({"seed": 1}, True), ({"guidance_scale": 5.0}, True), ({"width": 96, "height": 32}, True)],
)
def test_call_parameters_never_reload_the_model(lab: Lab, changed: dict[str, float], is_embedding_reused: bool) -> None:
    lab.generate(PROMPT, **QUICK)

    report = lab.generate(PROMPT, **{**QUICK, **changed}).report

    assert "resident_pipeline" in report.cache_hits
    assert ("text_embedding" in report.cache_hits) is is_embedding_reused


def test_another_scheduler_draws_another_picture_and_is_gone_afterwards(lab: Lab) -> None:
    plain = lab.generate(PROMPT, **QUICK)
    euler = lab.generate(PROMPT, **QUICK, scheduler="euler")
    again = lab.generate(PROMPT, **QUICK)

    assert euler.images[0].tobytes() != plain.images[0].tobytes()
    assert again.images[0].tobytes() == plain.images[0].tobytes()
    assert "Euler" in str(euler.report.scheduler_config["_class_name"])
    assert [row.scheduler for row in lab.history()] == ["DDIMScheduler", "EulerDiscreteScheduler", "DDIMScheduler"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"model": "no-such-model"}, UnknownModelError, "no-such-model"),
        ({"task": "text2audio"}, InvalidRequestError, "text2audio"),
        ({"task": "dance"}, InvalidRequestError, "dance"),
        ({"width": 513}, InvalidRequestError, "513"),
        ({"steps": 0}, InvalidRequestError, "steps is 0"),
        ({"steps": 10_001}, InvalidRequestError, "10,001"),
        ({"steps": "many"}, InvalidRequestError, "steps"),
        ({"guidance_scale": float("nan")}, InvalidRequestError, "nan"),
        ({"seed": 2**70}, InvalidRequestError, "seed"),
        ({"seed": -1}, InvalidRequestError, "seed"),
        ({"num_images": 0}, InvalidRequestError, "num_images"),
        ({"guidance_scal": 3.0}, UnknownOptionError, "guidance_scal"),
        ({"device": "cuda:9"}, InvalidRequestError, "cuda"),
        ({"dtype": "float8"}, InvalidRequestError, "float8"),
        ({"scheduler": "eulr"}, InvalidRequestError, "eulr"),
        ({"execution_mode": "ray"}, InvalidRequestError, "ray"),
        ({"steps": 3, "num_inference_steps": 4}, InvalidRequestError, "twice"),
    ],
)
def test_a_bad_request_is_a_typed_error_that_says_what_to_do_and_leaves_nothing(
    lab: Lab, options: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        lab.generate(PROMPT, progress=False, **options)

    assert caught.value.hint
    assert len(lab.history()) == 0


@pytest.mark.parametrize("prompt", ["", "  \n", "x" * 1_000_000])
def test_an_empty_or_a_huge_prompt_is_refused(lab: Lab, prompt: str) -> None:
    with pytest.raises(InvalidRequestError, match="prompt"):
        lab.generate(prompt, **QUICK)


def test_an_unknown_option_names_the_nearest(lab: Lab) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        lab.generate(PROMPT, guidance_scal=3.0)

    assert "guidance_scale" in caught.value.hint


def test_a_prompt_comes_back_exactly(lab: Lab) -> None:
    prompt = 'a "red" circle,\n<script>alert(1)</script> & it\'s 🎨 {x} $y %z \\n'

    result = lab.generate(prompt, **QUICK)

    assert lab.get_report(result.report.run_id).request.inputs.prompt == prompt
    assert next(iter(lab.history())).prompt == prompt
    embedded = read_png_metadata(lab.journal.artifacts.read(result.outputs[0].sha256))
    assert json.loads(embedded["omnirt"])["request"]["inputs"]["prompt"] == prompt


def test_metadata_can_be_left_out_of_the_pictures(lab: Lab) -> None:
    lab.configure(embed_metadata=False)
    try:
        result = lab.generate(PROMPT, **QUICK)
    finally:
        lab.configure(embed_metadata=True)

    assert read_png_metadata(lab.journal.artifacts.read(result.outputs[0].sha256)) == {}


def test_ctrl_c_ends_the_run_as_cancelled_and_leaves_everything_usable(lab: Lab) -> None:
    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 1:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        lab.generate(PROMPT, steps=20, seed=7, progress=False, on_event=interrupt)

    report = lab.last_report()
    assert report.state == "cancelled"
    assert 2 <= len(report.steps) < 20
    assert all(stage.end_t_ns is not None for stage in report.stages)
    assert lab.generate(PROMPT, **QUICK).report.state == "succeeded"


def test_a_pipeline_that_raises_keeps_the_partial_report(lab: Lab) -> None:
    with pytest.raises(PipelineError) as caught:
        lab.generate(PROMPT, **QUICK, options={"guidance_rescale": "not a number"})

    report = lab.last_report()
    assert report.state == "failed"
    assert report.run_id in str(caught.value)
    assert report.error is not None
    assert report.error.stage == "denoise"
    assert caught.value.__cause__ is not None
    assert lab.generate(PROMPT, **QUICK).report.state == "succeeded"


def test_a_report_survives_its_dictionary(lab: Lab) -> None:
    report = lab.generate(PROMPT, **QUICK).report

    fields = json.loads(json.dumps(report.to_dict()))

    assert omnirt_lab.RunReport.from_dict({**fields, "a_field_of_tomorrow": 1}) == report


def test_a_dictionary_that_is_no_report_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidRequestError, match="run_id"):
        omnirt_lab.RunReport.from_dict({"task": "text2image"})


def test_a_result_shows_itself_as_one_plain_bundle(lab: Lab, tmp_path: Path) -> None:
    result = lab.generate(PROMPT, **QUICK)

    bundle = result._repr_mimebundle_()

    assert set(bundle) == {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
    assert PROMPT in str(bundle["text/plain"])
    content = result.report.to_png(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes() == content
    assert Image.open(io.BytesIO(content)).width > 600
    assert result.report.figure().data


def test_a_result_finds_its_pictures_in_the_state_directory_of_its_lab(tmp_path: Path) -> None:
    with Lab(tmp_path / "elsewhere") as elsewhere:
        result = elsewhere.generate(PROMPT, **QUICK)

    assert result.images[0].size == (64, 64)
    assert len(result.report.pictures()) == 1
