from __future__ import annotations

import base64
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

import omnirt_lab
from omnirt_lab import Lab, Profile
from omnirt_lab.errors import InvalidRequestError

WEIGHTS = Path(omnirt_lab.__file__).parent / "tiny_shapes" / "weights"
STEPS = 3


def profile(lab: Lab, **options: object) -> Profile:
    return Profile(lambda: lab.engine, **{"sort": "self_cpu_time_total", "top": 5, **options})  # type: ignore[arg-type]


def convolutions(module: torch.nn.Module) -> int:
    return sum(isinstance(part, torch.nn.Conv2d) for part in module.modules())


def test_each_operator_of_a_pipeline_is_found_in_the_stage_that_called_it(lab: Lab):
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS, local_files_only=True)
    lab.observe(pipeline)

    with profile(lab) as found:
        pipeline("a red circle", num_inference_steps=STEPS)

    calls = found.to_pandas().query("operator == 'aten::conv2d'").set_index("stage")["calls"].to_dict()
    decoding = convolutions(pipeline.vae.decoder) + convolutions(pipeline.vae.post_quant_conv)
    assert calls == {"denoise": STEPS * convolutions(pipeline.unet), "vae_decode": decoding}
    (report,) = found.reports
    durations_ms = {stage.stage: (stage.duration_ns or 0) / 1e6 for stage in found.stages if stage.stage}
    assert durations_ms == pytest.approx({stage: report.timings[f"{stage}_ms"] for stage in durations_ms})
    for stage in found.stages:
        assert stage.duration_ns is None or stage.self_cpu_ns <= stage.duration_ns


def test_a_profiled_run_says_so_and_the_next_one_does_not(lab: Lab):
    with profile(lab) as found:
        lab.generate("a red circle", steps=1, progress=False)
    after = lab.generate("a red circle", steps=1, progress=False).report

    (report,) = found.reports
    assert [warning.code for warning in report.warnings] == ["profiled"]
    assert "torch's profiler watched this run" in report.to_text()
    assert after.warnings == ()


def test_only_the_runs_of_the_blocks_thread_are_its(lab: Lab):
    lab.generate("a star", steps=1, progress=False)
    with profile(lab) as found:
        first = lab.generate("a red circle", steps=1, progress=False)
        lab.submit("a blue circle", steps=1).result(timeout=60)
        second = lab.generate("a ring", steps=1, progress=False)

    assert [report.run_id for report in found.reports] == [first.report.run_id, second.report.run_id]


def test_it_is_shown_as_bars_and_tables_without_html_and_as_one_trace(lab: Lab, tmp_path: Path):
    with profile(lab) as found:
        lab.generate("<img src=x onerror=alert(1)>", steps=1, progress=False)

    bundle = found._repr_mimebundle_()
    document = found.to_chrome_trace(tmp_path / "trace.json")

    assert set(bundle) == {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "aten::" in str(bundle["application/vnd.plotly.v1+json"]["data"][0]["y"])
    assert "denoise: " in bundle["text/plain"]
    assert {event.get("cat") for event in document["traceEvents"]} >= {"job", "stage", "step", "operator"}
    assert (tmp_path / "trace.json").stat().st_size > 10_000


def test_a_block_that_raises_ends_the_profiler_and_keeps_what_was_seen(lab: Lab):
    def draw_and_fail() -> None:
        lab.generate("a red circle", steps=1, progress=False)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), profile(lab) as found:
        draw_and_fail()

    assert len(found.reports) == 1
    with profile(lab):
        pass


def test_a_second_profiler_and_unknown_orders_are_refused(lab: Lab):
    with torch.profiler.profile(), pytest.raises(InvalidRequestError, match="running already"), profile(lab):
        pass
    with pytest.raises(InvalidRequestError, match="self_cpu") as refused:
        profile(lab, sort="self_cpu")
    assert "'self_cpu_time_total'" in refused.value.hint
    with pytest.raises(InvalidRequestError, match="top is 0"):
        profile(lab, top=0)
