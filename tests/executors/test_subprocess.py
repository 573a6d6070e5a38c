"""`execution_mode="subprocess"`: a warm child of another environment's python, which can be made to break."""

from __future__ import annotations

import _thread
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from omnirt_lab import Lab
from omnirt_lab.errors import (
    InvalidRequestError,
    JobCancelledError,
    JobTimeoutError,
    NotEnoughMemoryError,
    PipelineError,
    UnknownOptionError,
)
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.lab.jobs import Job
from omnirt_lab.lab.replay import pixels
from omnirt_lab.records import AnyEvent, RunReport, Step
from omnirt_lab.views.text import report_text
from tests.executors import environments
from tests.executors.processes import children
from tests.executors.reports import of_the_request
from tests.pipelines import tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a child takes over pipes, which Windows does not do")

PROMPT = "a red circle on a blue background"
QUICK = {"steps": 3, "seed": 7, "progress": False}
APART = {**QUICK, "execution_mode": "subprocess"}
ENDLESS = {**APART, "steps": 1_000, "width": 128, "height": 128}
DEADLINE_S = 120.0
BALLAST_BYTES = 2**30
GRACE_S = 60.0
"""Long enough for a step on a busy machine: a child that is killed for it would have to be started again."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose child runs in another environment; nothing of it is left afterwards."""
    home = tmp_path_factory.mktemp("subprocess")
    before = SETTINGS.current
    files = _open_files()
    with Lab(home / "state") as opened:
        opened.configure(
            subprocess_python=environments.make(home / "other", sitecustomize=environments.BREAKABLE),
            cancel_grace_s=GRACE_S,
        )
        yield opened
    SETTINGS.current = before
    assert [thread.name for thread in threading.enumerate() if thread.name == "omnirt-child"] == []
    assert children() == []
    assert {name for name in _open_files() - files if name.startswith("pipe:")} == set()


def test_a_child_makes_the_same_picture_and_the_same_report_as_a_call_here(lab: Lab, tmp_path: Path) -> None:
    """As other families do in `test_every_mode`."""
    tiny.build("sd").save_pretrained(tmp_path / "sd")
    options = {"model": str(tmp_path / "sd"), "steps": 2, "seed": 7, "progress": False, **tiny.SIZES["sd"]}

    here = lab.generate(PROMPT, **options).report
    apart = lab.generate(PROMPT, execution_mode="subprocess", **options).report

    assert _pixels(here) == _pixels(apart)
    assert _stages(here) == _stages(apart)
    assert of_the_request(here) == of_the_request(apart)
    assert [step.index for step in here.steps] == [step.index for step in apart.steps]


def test_the_report_names_the_child_and_has_the_child_s_environment(lab: Lab) -> None:
    report = lab.generate(PROMPT, **APART).report

    child = _child_of(report)
    assert report.execution_mode == "subprocess"
    assert report.worker_id == f"{lab.engine.worker.worker_id}/child-{child.pid}"
    assert Path(child.cmdline()[0]) == Path(SETTINGS.current.subprocess_python or "")
    assert child.ppid() == os.getpid()
    assert os.getsid(child.pid) == child.pid
    assert report.memory.kind == "rss"
    assert report.memory.peak_bytes["cpu"] <= child.memory_info().rss * 1.5


def test_the_memory_of_a_report_is_the_child_s_and_not_this_process_s(lab: Lab) -> None:
    ballast = bytearray(b"\1") * BALLAST_BYTES

    report = lab.generate(PROMPT, **APART).report

    here, child = psutil.Process().memory_info().rss, _child_of(report)
    assert report.memory.peak_bytes["cpu"] < here - len(ballast) // 2
    assert report.memory.baseline_bytes["cpu"] > child.memory_info().rss / 4
    assert f"process memory of child-{child.pid}" in str(report_text(report))
    assert set(report.device_placement) == {"text_encoder", "unet", "vae"}


def test_what_cannot_fit_is_refused_by_the_child_before_it_loads(lab: Lab) -> None:
    with pytest.raises(NotEnoughMemoryError, match="does not fit into the memory of cpu") as refused:
        lab.generate(PROMPT, **APART, width=8192, height=8192, num_images=64)

    assert "By the estimate it fits with " in refused.value.hint
    assert lab.generate(PROMPT, **APART).report.state == "succeeded"


def test_events_stream_in_order_with_the_times_at_which_they_happened(lab: Lab) -> None:
    told: list[tuple[AnyEvent, str]] = []

    report = lab.generate(
        PROMPT, **APART, on_event=lambda event: told.append((event, threading.current_thread().name))
    ).report

    events = [event for event, _ in told]
    assert [event.seq for event in events] == list(range(2, len(events) + 2))
    assert {thread for _, thread in told} == {threading.current_thread().name}
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.data.index for step in steps] == [0, 1, 2]
    assert all(step.data.start_t_ns < step.t_ns <= report.stages[-1].end_t_ns for step in steps)
    assert report.stages[0].start_t_ns < steps[0].data.start_t_ns


def test_the_second_run_uses_the_caches_of_the_child(lab: Lab) -> None:
    first, second = (lab.generate(PROMPT, **APART) for _ in range(2))

    assert set(second.report.cache_hits) == {"resident_pipeline", "text_embedding"}
    assert _child_of(first.report) == _child_of(second.report)
    ((worker_id, figures),) = lab.cache.stats()["workers"].items()
    assert worker_id == second.report.worker_id
    assert {"tiny-shapes"} <= {model["name"] for model in figures["resident_pipeline"]["models"]}
    assert figures["text_embedding"]["hits"] >= 2
    assert figures["text_embedding"]["size_bytes"] > 0
    assert _pixels(first.report) == _pixels(second.report)


def test_a_submitted_job_goes_to_the_same_child_and_runs_take_turns(lab: Lab) -> None:
    job = _submit(lab, steps=10)

    here = lab.generate(PROMPT, **APART)

    assert _child_of(job.result(timeout=DEADLINE_S).report) == _child_of(here.report)


def test_what_is_wrong_with_a_request_is_said_before_there_is_a_job_and_while_another_one_runs(lab: Lab) -> None:
    running = _submit(lab, **ENDLESS)
    _wait_for_a_step(running)
    before = len(lab.journal.list_jobs())

    with pytest.raises(UnknownOptionError, match="colour") as caught:
        lab.generate(PROMPT, **APART, colour="red")

    assert caught.value.hint
    assert len(lab.journal.list_jobs()) == before
    running.cancel()
    with pytest.raises(JobCancelledError):
        running.result(timeout=DEADLINE_S)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout_s": 1}, "legacy_call"),
        ({"timeout_s": 0, "execution_mode": "subprocess"}, "timeout_s is 0"),
        ({"timeout_s": float("inf"), "execution_mode": "subprocess"}, "timeout_s is inf"),
    ],
)
def test_a_timeout_that_cannot_be_kept_is_refused(lab: Lab, options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        lab.generate(PROMPT, **QUICK, **options)


def test_a_cancel_is_heard_within_a_step_and_leaves_the_child_usable(lab: Lab) -> None:
    job = _submit(lab, **ENDLESS)
    _wait_for_a_step(job)

    job.cancel()

    with pytest.raises(JobCancelledError):
        job.result(timeout=DEADLINE_S)
    assert 1 <= len(job.report.steps) < 1_000
    assert all(stage.end_t_ns is not None for stage in job.report.stages)
    assert _child_of(lab.generate(PROMPT, **APART).report) == _child_of(job.report)


def test_ctrl_c_cancels_the_run_and_leaves_the_child_usable(lab: Lab) -> None:
    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 1:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        lab.generate(PROMPT, **ENDLESS, on_event=interrupt)

    report = lab.last_report()
    assert report.state == "cancelled"
    assert 2 <= len(report.steps) < 1_000
    assert all(stage.end_t_ns is not None for stage in report.stages)
    assert _child_of(lab.generate(PROMPT, **APART).report) == _child_of(report)


def test_a_pipeline_that_raises_in_a_step_is_the_same_error_as_here_and_leaves_the_child_usable(lab: Lab) -> None:
    with pytest.raises(PipelineError, match="RuntimeError: the step broke") as caught:
        lab.generate(PROMPT, **{**APART, "steps": 5}, options={"eta": environments.RAISE})

    report = lab.last_report()
    assert (report.state, len(report.steps)) == ("failed", 3)
    assert report.error is not None
    assert (report.error.type, report.error.stage) == ("RuntimeError", "denoise")
    assert "in fail" in (report.error.traceback or ""), "the child's own traceback"
    assert "in fail" in str(caught.value.__cause__.__cause__)
    assert report.probe.overhead_ns is not None
    assert _child_of(lab.generate(PROMPT, **APART).report) == _child_of(report)


def test_a_run_that_hangs_is_killed_when_its_time_is_over_though_it_holds_the_interpreter(lab: Lab) -> None:
    job = _submit(lab, steps=5, timeout_s=2, options={"eta": environments.HANG})

    with pytest.raises(JobTimeoutError, match=job.run_id):
        job.result(timeout=DEADLINE_S)

    assert (job.state, len(job.report.steps)) == ("cancelled", 3)
    assert job.report.error is not None
    assert (job.report.error.type, job.report.error.stage) == ("JobTimeoutError", "denoise")
    assert children() == []


def _submit(lab: Lab, **options: object) -> Job:
    given = {**APART, **options}
    del given["progress"]
    return lab.submit(PROMPT, **given)


def _wait_for_a_step(job: Job) -> None:
    for event in job.events(timeout=DEADLINE_S):
        if isinstance(event, Step):
            return
    raise AssertionError(f"{job} ended without a step")


def _child_of(report: RunReport) -> psutil.Process:
    """The process that made a run, as its report names it."""
    assert report.worker_id is not None
    return psutil.Process(int(report.worker_id.rpartition("/child-")[2]))


def _open_files() -> set[str]:
    """What this process's descriptors stand for."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except OSError:  # the one that lists them
            continue
    return found


def _pixels(report: RunReport) -> list[object]:
    """What a run has made, without what its files say of the run itself."""
    decoded = [pixels(content).tobytes() for content in report.pictures()]
    return [artifact.raw_sha256 or picture for artifact, picture in zip(report.artifacts, decoded, strict=True)]


def _stages(report: RunReport) -> list[tuple[str, str | None]]:
    """Names and classes; gaps are reported where they are long enough, which is a matter of chance."""
    gaps = {"prepare", "postprocess"}
    return [(stage.name, stage.class_name) for stage in report.stages if stage.name not in gaps]
