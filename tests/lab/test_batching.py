"""Queued jobs that share one call of the pipeline; they wait before the engine looks, so no group hangs on time."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnirt_lab import Lab, RunReport
from omnirt_lab.engine import build_request
from omnirt_lab.engine.gathering import company_of
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.folds import series
from omnirt_lab.journal import JobRecord, JobWriter, read_png_metadata
from omnirt_lab.lab.jobs import Job
from omnirt_lab.pipelines.catalog import get_model
from omnirt_lab.records import AnyEvent, Step

PROMPTS = tuple(
    f"a {colour} {shape} on a white background"
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("circle", "star")
)
DEADLINE_S = 60.0
QUICK = {"steps": 2}


@pytest.fixture(autouse=True)
def _same_settings_afterwards() -> Iterator[None]:
    before = SETTINGS.current
    yield
    SETTINGS.current = before


def queue(lab: Lab, prompt: str, *, priority: int = 0, **options: object) -> Job:
    """A job that waits, as its engine does not know of it yet."""
    request = build_request(prompt, {**QUICK, **options})
    job = lab.journal.enqueue(request, priority=priority, is_async=True)
    return Job(lab.journal, job.job_id, job.run_id)


def run_all(lab: Lab, jobs: list[Job], last: str, **options: object) -> list[RunReport]:
    """Let the engine begin, by one more job; the reports of all."""
    everything = [*jobs, lab.submit(last, **{**QUICK, **options})]
    return [job.result(timeout=DEADLINE_S).report for job in everything]


def claim(lab: Lab, *jobs: Job) -> list[JobWriter]:
    return lab.journal.claim_all([job.id for job in jobs], lab.engine.worker)


def at_first_step(action: Callable[[], None]) -> Callable[[AnyEvent], None]:
    done: list[AnyEvent] = []

    def listen(event: AnyEvent) -> None:
        if isinstance(event, Step) and not done:
            done.append(event)
            action()

    return listen


def pixels(report: RunReport) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(report.pictures()[0])).convert("RGB"), dtype=np.int16)


def test_eight_queued_prompts_share_a_call_and_each_keeps_its_own_report_and_picture(lab: Lab) -> None:
    lab.configure(batch_window_ms=0)
    jobs = [queue(lab, prompt, seed=10 + 3 * i) for i, prompt in enumerate(PROMPTS[:7])]

    reports = run_all(lab, jobs, PROMPTS[7], seed=99)

    assert {report.batch_size for report in reports} == {8}
    (group,) = {report.batch_group_id for report in reports}
    assert group is not None
    for report, prompt, seed in zip(reports, PROMPTS, [*range(10, 31, 3), 99], strict=True):
        assert (report.state, report.job_id is not None, report.error) == ("succeeded", True, None)
        assert [mark.seq for mark in report.stream_events] == sorted({mark.seq for mark in report.stream_events})
        events = lab.journal.events(str(report.job_id))
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert report.config_resolved["prompt"] == prompt
        assert [generator.seed for generator in report.generators or ()] == [seed]
        text = read_png_metadata(report.pictures()[0])
        assert prompt in str(text)
        assert report.latent_stats is not None
        assert report.latent_stats.shape[0] == 1
        assert len(report.steps) == 2
        assert all(step.start_t_ns >= 0 for step in report.steps)
        alone = lab.generate(prompt, **QUICK, seed=seed, progress=False).report
        assert np.abs(pixels(report) - pixels(alone)).max() <= 1
        assert alone.batch_size == 1
    waits = [report.queue_wait_ms or 0.0 for report in reports]
    assert waits == sorted(waits, reverse=True), "each waited since it was queued itself"


def test_the_stages_of_a_shared_call_are_counted_once(lab: Lab) -> None:
    lab.configure(batch_window_ms=0)

    reports = run_all(lab, [queue(lab, prompt) for prompt in PROMPTS[:3]], PROMPTS[3])

    with lab.journal.cursor() as cursor:
        counts = series.apply(series.SeriesState(), [(entry.job_id, entry.event) for entry in cursor.read()])
    stages = {stage: sum(histogram.counts) for (stage, _), histogram in counts.stages.items()}
    assert (stages["denoise"], stages["export"], stages["queue"]) == (1, 4, 4)
    assert stages["load"] == [stage.name for stage in reports[0].stages].count("load") == 1
    assert sum(counts.steps["tiny-shapes"].counts) == len(reports[0].steps)
    assert {report.timings["denoise_ms"] for report in reports} == {reports[0].timings["denoise_ms"]}, "each report's"


def test_a_batched_run_is_replayed_bit_for_bit_whatever_its_place_was(lab: Lab) -> None:
    lab.configure(batch_window_ms=0)
    reports = run_all(lab, [queue(lab, prompt, seed=i) for i, prompt in enumerate(PROMPTS[:4])], PROMPTS[4], seed=77)

    for report in (reports[0], reports[4]):
        replay = lab.replay(report.run_id, progress=False)

        assert (replay.verdict, replay.differing_fields) == ("bit_exact", ())
        assert replay.result.report.batch_size == 5
        assert replay.result.report.latent_stats == report.latent_stats
        assert len(replay.result.images) == 1


def test_batching_is_off_unless_it_is_asked_for(lab: Lab) -> None:
    reports = run_all(lab, [queue(lab, PROMPTS[0]), queue(lab, PROMPTS[1])], PROMPTS[2])

    assert [(report.batch_size, report.batch_group_id) for report in reports] == [(1, None)] * 3
    lab.configure(batch_window_ms=0, max_batch_size=1)
    assert [report.batch_size for report in run_all(lab, [queue(lab, PROMPTS[0])], PROMPTS[1])] == [1, 1]


def test_a_group_is_no_larger_than_allowed(lab: Lab) -> None:
    lab.configure(batch_window_ms=0, max_batch_size=3)

    reports = run_all(lab, [queue(lab, PROMPTS[i], steps=1) for i in range(4)], PROMPTS[4], steps=1)

    assert [report.batch_size for report in reports] == [3, 3, 3, 2, 2]


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 3},
        {"guidance_scale": 2.0},
        {"negative_prompt": "blue"},
        {"num_images": 2},
        {"width": 32, "height": 32},
        {"scheduler": "euler"},
        {"preset": "quality"},
        {"denoiser_cache": "first_block"},
        {"options": {"clip_skip": 1}},
        {"options": {"prompt_embeds": [[0.0]]}},
        {"options": {"no_such_option": 1}},
        {"execution_mode": "subprocess"},
        {"adapters": [{"source": "somewhere"}]},
        {"model": "no-such-model"},
    ],
    ids=str,
)
def test_what_would_change_a_result_is_not_mixed(lab: Lab, other: dict[str, object]) -> None:
    first, _, like_first = queue(lab, PROMPTS[0]), queue(lab, PROMPTS[1], **other), queue(lab, PROMPTS[2], seed=5)

    assert ids(company_of(lab.journal.list_queued(), limit=8).jobs) == [first.id, like_first.id]


def test_a_wrong_request_at_the_head_runs_alone(lab: Lab) -> None:
    wrong, _ = (queue(lab, prompt, options={"no_such_option": 1}) for prompt in PROMPTS[:2])

    company = company_of(lab.journal.list_queued(), limit=8)

    assert (ids(company.jobs), company.may_grow) == ([wrong.id], False)


def test_nobody_overtakes_one_of_higher_priority_that_is_left_out(lab: Lab) -> None:
    low = queue(lab, PROMPTS[0], priority=0)
    other = queue(lab, PROMPTS[1], priority=3, steps=5)
    like_high = queue(lab, PROMPTS[2], priority=3)
    high = queue(lab, PROMPTS[3], priority=7)

    chosen = company_of(lab.journal.list_queued(), limit=8).jobs

    assert ids(chosen) == [high.id, like_high.id], "the one of priority 0 would delay the one of 3"
    claim(lab, high, like_high)
    assert ids(company_of(lab.journal.list_queued(), limit=8).jobs) == [other.id]
    claim(lab, other)
    assert ids(company_of(lab.journal.list_queued(), limit=8).jobs) == [low.id]


def test_a_job_waits_for_company_and_no_longer_than_until_the_group_is_full(lab: Lab) -> None:
    lab.configure(batch_window_ms=60_000, max_batch_size=2)
    first = lab.submit(PROMPTS[0], **QUICK)

    second = lab.submit(PROMPTS[1], **QUICK)

    assert {job.result(timeout=DEADLINE_S / 2).report.batch_size for job in (first, second)} == {2}


def test_a_job_that_finds_no_company_within_the_window_runs_alone(lab: Lab) -> None:
    lab.configure(batch_window_ms=20)

    assert lab.submit(PROMPTS[0], **QUICK).result(timeout=DEADLINE_S).report.batch_size == 1


def test_closing_leaves_a_job_that_waits_for_company_in_the_queue(lab: Lab) -> None:
    lab.configure(batch_window_ms=60_000)
    lab.submit(PROMPTS[0], **QUICK)

    lab.close()

    assert [job.state for job in lab.journal.list_jobs()] == ["queued"]
    assert [thread.name for thread in threading.enumerate() if thread.name == "omnirt-engine"] == []


def test_cancel_of_one_ends_it_at_the_next_step_and_does_not_touch_the_others(lab: Lab) -> None:
    jobs = [queue(lab, prompt, steps=6, seed=3) for prompt in PROMPTS[:3]]
    writers = claim(lab, *jobs)
    writers[0].listeners.append(at_first_step(jobs[1].cancel))

    lab.engine.work_together(writers)

    assert [job.state for job in jobs] == ["succeeded", "cancelled", "succeeded"]
    cancelled = jobs[1].report
    assert 1 <= len(cancelled.steps) < 6
    assert [stage.error for stage in cancelled.stages if stage.name == "denoise"] == ["JobCancelledError"]
    assert cancelled.artifacts == ()
    assert {job.report.batch_size for job in jobs} == {3}
    assert lab.replay(jobs[2].run_id, progress=False).verdict == "bit_exact"


def test_a_call_whose_jobs_are_all_cancelled_stops(lab: Lab) -> None:
    jobs = [queue(lab, prompt, steps=200) for prompt in PROMPTS[:2]]
    writers = claim(lab, *jobs)
    writers[0].listeners.append(at_first_step(lambda: [job.cancel() for job in jobs] and None))

    lab.engine.work_together(writers)

    assert [job.state for job in jobs] == ["cancelled", "cancelled"]
    assert all(len(job.report.steps) < 200 for job in jobs)


def test_what_only_the_batch_cannot_do_each_job_does_alone_and_says_so(lab: Lab) -> None:
    jobs = [queue(lab, PROMPTS[0], negative_prompt="blue", seed=4), queue(lab, PROMPTS[1], seed=5)]

    lab.engine.work_together(claim(lab, *jobs))  # a list of a text and None is what no pipeline takes

    for job in jobs:
        report = job.report
        assert (report.state, report.batch_size, report.batch_group_id) == ("succeeded", 1, None)
        assert [span.attempt for span in report.backend_timeline] == [1, 2]
        assert [warning.code for warning in report.warnings] == ["batch_failed"]
        assert "a call for 2 jobs" in report.warnings[0].message


def test_an_error_of_the_call_is_each_jobs_own_where_it_comes_again(lab: Lab) -> None:
    bad = [queue(lab, prompt, options={"guidance_rescale": "no number"}) for prompt in PROMPTS[:2]]
    good = queue(lab, PROMPTS[2])

    lab.engine.work_together(claim(lab, *bad, good))

    assert [job.state for job in (*bad, good)] == ["failed", "failed", "succeeded"]
    assert [job.report.error and job.report.error.stage for job in bad] == ["denoise", "denoise"]
    assert {job.report.batch_size for job in (*bad, good)} == {1}


def test_a_model_that_cannot_be_loaded_fails_every_job_of_the_group_at_once(lab: Lab, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(get_model("tiny-shapes").location, broken)
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    jobs = [queue(lab, prompt, model=str(broken)) for prompt in PROMPTS[:2]]

    lab.engine.work_together(claim(lab, *jobs))

    for job in jobs:
        report = job.report
        assert (report.state, len(report.backend_timeline), report.batch_size) == ("failed", 1, 2)
        assert report.error is not None
        assert (report.error.type, report.error.stage) == ("ModelLoadError", "load")


def test_a_picture_that_cannot_be_stored_fails_its_own_job_alone(tmp_path: Path) -> None:
    with Lab(tmp_path / "first") as lab:
        lab.configure(embed_metadata=False)  # so that the file is the same another time
        jobs = [queue(lab, prompt, seed=2) for prompt in PROMPTS[:2]]
        lab.engine.work_together(claim(lab, *jobs))
        path = lab.journal.artifacts.path(jobs[0].report.artifacts[0].sha256)
        shard = path.parent.relative_to(tmp_path / "first")
    with Lab(tmp_path / "second") as lab:
        jobs = [queue(lab, prompt, seed=2) for prompt in PROMPTS[:2]]
        (tmp_path / "second" / shard).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "second" / shard).write_text("a file where the folder should be")

        lab.engine.work_together(claim(lab, *jobs))

        assert [job.state for job in jobs] == ["failed", "succeeded"]
        assert jobs[0].report.error is not None
        assert jobs[0].report.error.stage == "export"


def test_an_interrupt_of_a_job_that_does_not_stop_ends_it_and_the_others_are_made_again(lab: Lab) -> None:
    jobs = [queue(lab, prompt, steps=3) for prompt in PROMPTS[:2]]
    writers = claim(lab, *jobs)

    def interrupt() -> None:
        jobs[0].cancel()
        raise KeyboardInterrupt

    writers[0].listeners.append(at_first_step(interrupt))

    error = lab.engine.work_together(writers)

    assert isinstance(error, KeyboardInterrupt)
    assert [job.state for job in jobs] == ["cancelled", "succeeded"]
    assert [span.attempt for span in jobs[1].report.backend_timeline] == [1, 2]


def test_the_embeddings_of_a_group_are_cached_and_its_hit_counts_once(lab: Lab) -> None:
    lab.configure(batch_window_ms=0)
    lab.cache.clear()
    run_all(lab, [queue(lab, PROMPTS[0])], PROMPTS[1])

    reports = run_all(lab, [queue(lab, PROMPTS[0])], PROMPTS[1])

    assert "text_embedding" in reports[0].cache_hits
    assert reports[1].cache_hits == ()


@pytest.mark.parametrize("wrong", [{"batch_window_ms": -1}, {"batch_window_ms": float("nan")}, {"max_batch_size": 0}])
def test_settings_out_of_range_are_refused_and_change_nothing(lab: Lab, wrong: dict[str, float]) -> None:
    before = SETTINGS.current

    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        lab.configure(embed_metadata=False, **wrong)

    assert SETTINGS.current == before


def ids(jobs: tuple[JobRecord, ...]) -> list[str]:
    return [job.job_id for job in jobs]
