"""Cells of a sweep that share one call of the pipeline."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from omnirt_lab import GenerateResult, Lab, Sweep
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.lab.replay import compared, recorded
from omnirt_lab.records import AnyEvent, GenerateRequest, Step

PROMPT = "a red circle on a blue background"


def swept(lab: Lab, **options: object) -> Sweep:
    return lab.sweep(PROMPT, **{"steps": [2, 3], "seed": [1, 2, 3, 7], "progress": False, **options})


def results(sweep: Sweep) -> list[GenerateResult]:
    return [result for result in sweep.results if result is not None]


def pixels(result: GenerateResult) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.report.pictures()[0])).convert("RGB"), dtype=np.int16)


def test_each_run_has_its_own_picture_and_report_and_says_with_how_many_it_was_made(lab: Lab):
    sweep = swept(lab, batch_size=8)

    reports = [result.report for result in results(sweep)]
    assert [report.batch_size for report in reports] == [3, 3, 3, 1, 3, 3, 3, 1]
    groups = [report.batch_group_id for report in reports]
    assert len(set(groups[:3])) == len(set(groups[4:7])) == 1
    assert groups[0] != groups[4]
    for report, (steps, seed) in zip(reports, [cell.values for cell in sweep.cells], strict=True):
        assert report.state == "succeeded"
        assert (report.request.config.steps, report.request.config.seed, report.request.config.num_images) == (
            steps,
            seed,
            1,
        )
        assert [generator.seed for generator in report.generators or ()] == [seed]
        assert [artifact.seed for artifact in report.artifacts] == [seed]
        assert len(report.steps) == steps
    assert sweep.to_pandas()["batch_size"].tolist() == [3, 3, 3, 1, 3, 3, 3, 1]
    assert "up to 3 runs a call" in str(sweep)


def test_its_pictures_are_those_of_single_runs_but_for_rounding(lab: Lab):
    together, alone = swept(lab, batch_size=4), swept(lab)

    for first, second in zip(results(together), results(alone), strict=True):
        assert np.abs(pixels(first) - pixels(second)).max() <= 1
    assert {result.report.batch_size for result in results(alone)} == {1}


def test_the_times_of_a_batch_lie_within_each_run_and_a_cache_hit_counts_once(lab: Lab):
    sweep = swept(lab, batch_size=4)

    for result in results(sweep):
        report = result.report
        ends = [stage.end_t_ns or 0 for stage in report.stages]
        assert all(stage.start_t_ns <= end for stage, end in zip(report.stages, ends, strict=True))
        assert all(step.start_t_ns >= 0 for step in report.steps)
        assert max(ends) <= report.stream_events[-1].t_ns
    asked = [result.report.cache_details for result in results(sweep)[:3]]
    assert asked[0] != ()
    assert asked[1:] == [(), ()]


def test_a_batched_run_is_replayed_bit_for_bit_in_a_call_of_its_size(lab: Lab):
    result = results(swept(lab, batch_size=4))[1]

    replay = lab.replay(result.report, progress=False)

    assert (replay.verdict, replay.differing_fields) == ("bit_exact", ())
    assert replay.result.report.batch_size == 3
    assert replay.result.report.request.config.seed == 2


def test_the_same_request_in_a_call_of_another_size_is_close_and_the_size_is_named(lab: Lab):
    together, alone = results(swept(lab, batch_size=4))[1], results(swept(lab))[1]

    replay = compared(recorded(lab.engine.journal, together.report.run_id), alone)

    assert replay.differences == {"batch_size": (3, 1)}
    assert replay.verdict in ("bit_exact", "close")  # the rounding differs, which need not reach the picture's 8 bits


def test_a_failure_in_a_batch_is_each_cells(lab: Lab):
    sweep = swept(lab, steps=2, seed=[1, 2], batch_size=2, guidance_rescale="none")

    assert [cell.state for cell in sweep.cells] == ["failed", "failed"]
    errors = [result.report.error for result in results(sweep)]
    assert [error and error.stage for error in errors] == ["denoise", "denoise"]
    assert swept(lab, steps=2, seed=[1, 2], batch_size=2).is_complete


def at_first_step(action: Callable[[], None]) -> Callable[[AnyEvent], None]:
    done: list[AnyEvent] = []

    def listen(event: AnyEvent) -> None:
        if isinstance(event, Step) and not done:
            done.append(event)
            action()

    return listen


def requests(lab: Lab) -> list[GenerateRequest]:
    return [result.report.request for result in results(swept(lab, steps=4, seed=[1, 2], batch_size=2))]


def test_an_interrupt_ends_all_runs_of_the_batch(lab: Lab):
    def interrupt() -> None:
        raise KeyboardInterrupt

    wanted = requests(lab)
    with pytest.raises(KeyboardInterrupt):
        lab.engine.attempt_together(wanted, listeners=[at_first_step(interrupt)])

    assert [run.state for run in lab.history(limit=2)] == ["cancelled", "cancelled"]


def test_a_cancelled_run_gets_no_picture_and_the_others_of_its_batch_do(lab: Lab):
    wanted = requests(lab)

    def cancel() -> None:
        lab.journal.request_cancel(lab.journal.list_jobs(limit=1)[0].job_id)

    first, second = lab.engine.attempt_together(wanted, listeners=[at_first_step(cancel)])

    assert (first.state, second.state) == ("succeeded", "cancelled")
    assert (len(first.artifacts), len(second.artifacts)) == (1, 0)


def test_a_batch_whose_runs_are_all_cancelled_stops(lab: Lab):
    wanted = requests(lab)

    def cancel() -> None:
        for job in lab.journal.list_jobs(limit=2):
            lab.journal.request_cancel(job.job_id)

    reports = lab.engine.attempt_together(wanted, listeners=[at_first_step(cancel)])

    assert [report.state for report in reports] == ["cancelled", "cancelled"]
    assert all(len(report.steps) < 4 for report in reports)


def test_a_batch_size_below_one_is_refused(lab: Lab):
    with pytest.raises(InvalidRequestError, match="batch_size is 0"):
        swept(lab, batch_size=0)
