"""Jobs that share a call, with the families whose latents and text encoders are not those of the built-in model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.engine import build_request
from omnirt_lab.engine.gathering import company_of
from omnirt_lab.executors.shared_writer import SharedWriter
from omnirt_lab.records import Eviction, JobFinishedData, RunReport, WarningData
from tests.pipelines import tiny

PROMPTS = ("a red circle", "a star", "blue")


def pixels(lab: Lab, report: RunReport) -> np.ndarray:
    content = lab.journal.artifacts.read(report.artifacts[0].sha256)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16)


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_every_family_draws_in_company_what_it_draws_alone(family: str, tmp_path: Path):
    tiny.build(family).save_pretrained(tmp_path / family)
    options = {"model": str(tmp_path / family), "steps": 2, **tiny.SIZES.get(family, {})}
    with Lab() as lab:
        for seed, prompt in enumerate(PROMPTS):
            lab.journal.enqueue(build_request(prompt, {**options, "seed": 5 * seed}), is_async=True)
        jobs = company_of(lab.journal.list_queued(), limit=8).jobs

        lab.engine.work_together(lab.journal.claim_all([job.job_id for job in jobs], lab.engine.worker))

        for job, prompt in zip(jobs, PROMPTS, strict=True):
            report = lab.journal.get_report(job.run_id)
            alone = lab.generate(prompt, **options, seed=report.request.config.seed, progress=False).report
            assert (report.state, report.batch_size, report.warnings) == ("succeeded", 3, ())
            assert np.abs(pixels(lab, report) - pixels(lab, alone)).max() <= 1
            assert report.latent_stats is not None
            assert alone.latent_stats is not None
            assert report.latent_stats.shape == alone.latent_stats.shape
        assert lab.replay(jobs[1].run_id, progress=False).verdict == "bit_exact"


def test_a_model_that_went_for_a_shared_call_went_once():
    eviction = Eviction(cache_type="resident_pipeline", name="sd", device="cpu", size_bytes=700)
    with Lab() as lab:
        jobs = [lab.journal.enqueue(build_request(prompt, {}), is_async=True) for prompt in PROMPTS]
        writers = lab.journal.claim_all([job.job_id for job in jobs], lab.engine.worker)
        shared = SharedWriter(writers)
        shared.emit(WarningData(code="pipeline_evicted", message="sd was let go", eviction=eviction))
        shared.emit(WarningData(code="float16_on_cpu", message="slow"))

        reports = [writer.finish(JobFinishedData()) for writer in writers]

    assert [len(report.warnings) for report in reports] == [2, 1, 1]
    assert [sum(use.evictions for use in report.cache_details) for report in reports] == [1, 0, 0]
