"""Jobs for a published pipeline that share a call of it; they wait before it is published, so none hangs on time."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from diffusers import DiffusionPipeline
from PIL import Image

from omnirt_lab import Lab, RunReport
from omnirt_lab.engine import build_request
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import published_queue
from omnirt_lab.lab.jobs import Job
from tests.pipelines import tiny

PROMPTS = ("a red circle", "a green star", "a blue square on white")
DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _same_settings_afterwards() -> Iterator[None]:
    before = SETTINGS.current
    yield
    SETTINGS.current = before


@pytest.fixture
def mine() -> DiffusionPipeline:
    return tiny.build("sd")


def queue(lab: Lab, prompt: str, **options: object) -> Job:
    """A job that waits for whoever publishes `mine`."""
    request = build_request(prompt, {"model": "mine", "steps": 2, "seed": 7, "width": 64, "height": 64, **options})
    job = lab.journal.enqueue(request, is_async=True, queue=published_queue("mine"))
    return Job(lab.journal, job.job_id, job.run_id)


def ended(job: Job) -> RunReport:
    for _ in job.events(timeout=DEADLINE_S):
        pass
    return job.report


def levels(report: RunReport) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(report.pictures()[0])).convert("RGB"), int)


def test_jobs_share_a_call_of_the_owners_pipeline_and_each_has_the_picture_it_has_alone(
    lab: Lab, mine: DiffusionPipeline
) -> None:
    lab.configure(batch_window_ms=0)
    jobs = [queue(lab, prompt, seed=seed) for seed, prompt in enumerate(PROMPTS)]

    lab.publish(mine, name="mine")

    reports = [ended(job) for job in jobs]
    assert {(report.state, report.batch_size) for report in reports} == {("succeeded", 3)}
    assert len({report.batch_group_id for report in reports}) == 1
    assert [report.config_resolved["prompt"] for report in reports] == list(PROMPTS)
    assert {report.worker_id for report in reports} == {lab.journal.live_workers()[-1].worker_id}
    assert all("resident_pipeline" not in {use.cache_type for use in report.cache_details} for report in reports)
    for seed, (prompt, report) in enumerate(zip(PROMPTS, reports, strict=True)):
        alone = ended(queue(lab, prompt, seed=seed))
        assert alone.batch_size == 1
        assert np.abs(levels(report) - levels(alone)).max() <= 1


def test_without_batching_each_has_a_call_of_its_own(lab: Lab, mine: DiffusionPipeline) -> None:
    jobs = [queue(lab, prompt) for prompt in PROMPTS[:2]]

    lab.publish(mine, name="mine")

    assert [ended(job).batch_size for job in jobs] == [1, 1]


def test_what_the_pipeline_does_not_take_fails_alone_and_does_not_keep_the_others_apart(
    lab: Lab, mine: DiffusionPipeline
) -> None:
    lab.configure(batch_window_ms=0)
    wrong = [queue(lab, PROMPTS[0], options={"colour": 3}), queue(lab, PROMPTS[0], dtype="float16")]
    right = [queue(lab, prompt) for prompt in PROMPTS[:2]]

    lab.publish(mine, name="mine")

    assert [ended(job).state for job in wrong] == ["failed", "failed"]
    assert [(ended(job).state, ended(job).batch_size) for job in right] == [("succeeded", 2)] * 2


def test_what_only_the_batch_cannot_do_each_job_does_alone_on_the_same_pipeline(
    lab: Lab, mine: DiffusionPipeline
) -> None:
    def refuse(_: object, args: tuple[object, ...]) -> None:
        if args[0].shape[0] > 2:  # type: ignore[attr-defined]  # latents; guidance doubles those of one picture
            raise RuntimeError("too many rows")

    lab.configure(batch_window_ms=0)
    jobs = [queue(lab, prompt) for prompt in PROMPTS[:2]]
    mine.unet.register_forward_pre_hook(refuse)

    lab.publish(mine, name="mine")

    reports = [ended(job) for job in jobs]
    assert [(report.state, report.batch_size) for report in reports] == [("succeeded", 1)] * 2
    assert [[warning.code for warning in report.warnings] for report in reports] == [["batch_failed"]] * 2
    assert [[span.attempt for span in report.backend_timeline] for report in reports] == [[1, 2]] * 2
