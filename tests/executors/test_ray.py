"""`execution_mode="ray"`: actors of a cluster on this machine, which can be made to break."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType

import psutil
import pytest
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.errors import (
    ActorDiedError,
    InvalidRequestError,
    JobCancelledError,
    NotAvailableError,
    PipelineError,
    UnknownOptionError,
)
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import JobRecord
from omnirt_lab.lab.jobs import Job
from omnirt_lab.lab.replay import pixels
from omnirt_lab.records import AnyEvent, RunReport, Step
from tests.executors import environments
from tests.executors.clusters import directories_of
from tests.pipelines import tiny

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="what is killed here, is killed by a signal")

PROMPT = "a red circle on a blue background"
QUICK = {"steps": 3, "seed": 7, "progress": False}
THERE = {**QUICK, "execution_mode": "ray"}
SLOW = {"options": {"eta": environments.SLOW}}
ENDLESS = {**SLOW, "steps": 1_000}
STEPS = 30
DEADLINE_S = 120.0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"ray": "ray://head:10001"}, "Ray Client"),
        ({"ray": "elsewhere"}, "HOST:PORT"),
        ({"ray_actors": 0}, "1 or more"),
        ({"ray_actor_cpus": 0}, "above 0"),
        ({"ray_actor_gpus": 1.5}, "whole number"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(setting: dict[str, object], said: str) -> None:
    before = SETTINGS.current
    with Lab() as other, pytest.raises(InvalidRequestError) as caught:
        other.configure(**setting)

    assert said in caught.value.hint
    assert SETTINGS.current is before


def test_without_a_cluster_it_says_how_to_get_one() -> None:
    before = SETTINGS.current
    SETTINGS.current = type(before)()
    try:
        with Lab() as other, pytest.raises(NotAvailableError, match="no Ray cluster") as caught:
            other.generate(PROMPT, **THERE)
    finally:
        SETTINGS.current = before
    assert "configure(ray='local')" in caught.value.hint


NOBODY = """
import sys
import omnirt_lab as lab
from omnirt_lab.errors import ClusterUnreachableError, NotAvailableError

def refusal(kind, address):
    lab.configure(ray=address)
    try:
        lab.generate("x", execution_mode="ray", progress=False)
    except kind as error:
        return f"{error} {error.hint}"

print(refusal(ClusterUnreachableError, "127.0.0.1:1"))
sys.modules["ray"] = None  # as where it is not installed
print(refusal(NotAvailableError, "local"))
"""


def test_a_cluster_that_is_not_there_and_a_package_that_is_not_installed_are_named() -> None:
    said = subprocess.run([sys.executable, "-c", NOBODY], capture_output=True, text=True, check=True).stdout

    nobody, absent = said.splitlines()
    assert "127.0.0.1:1" in nobody
    assert "ray start" in nobody
    assert "omnirt-lab[ray]" in absent


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with a cluster of two actors; nothing of them is left afterwards."""
    home = tmp_path_factory.mktemp("ray")
    (home / "sitecustomize.py").write_text(environments.BREAKABLE)
    before = SETTINGS.current
    with pytest.MonkeyPatch.context() as patch, Lab(home / "state") as opened:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("HOME", str(home))
        opened.configure(ray="local", ray_actors=2, ray_actor_cpus=0.5, cancel_grace_s=60.0)
        yield opened
        started = _descendants()
    SETTINGS.current = before
    assert started
    assert psutil.wait_procs(started, timeout=DEADLINE_S)[1] == []
    assert directories_of(os.getpid()) == []
    _wait_until(lambda: not _threads())
    assert not (home / ".ray").exists(), "Ray's token is in no file"


def test_an_actor_makes_the_same_picture_and_its_report_names_worker_and_node(lab: Lab) -> None:
    here = lab.generate(PROMPT, **QUICK).report
    told: list[AnyEvent] = []
    there = lab.generate(PROMPT, **THERE, on_event=told.append).report

    assert _pixels(there) == _pixels(here)
    assert there.latent_stats == here.latent_stats
    assert there.execution_mode == "ray"
    assert there.environment is not None
    assert there.memory.kind == "rss"
    assert there.probe.overhead_ns is not None
    assert [event.seq for event in told] == list(range(2, len(told) + 2))
    assert [event.data.index for event in told if isinstance(event, Step)] == [0, 1, 2]
    (span,) = there.backend_timeline
    assert (span.worker_id, span.attempt, span.state) == (there.worker_id, 1, "succeeded")
    node, pid = str(there.worker_id).removeprefix(f"{lab.engine.worker.worker_id}/actor-").split("-")
    assert str(span.node).endswith(f"/{node}")
    assert int(pid) in {process.pid for process in _descendants()}
    assert psutil.Process(int(pid)).nice() == psutil.Process().nice()


def test_a_cluster_of_our_own_listens_on_this_machine_alone(lab: Lab) -> None:
    lab.generate(PROMPT, **THERE)

    addresses = {
        connection.laddr.ip
        for process in _descendants()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert addresses


def test_pictures_travel_with_the_request_and_back(lab: Lab) -> None:
    given = {"image": Image.new("RGB", (64, 64), (0, 0, 255)), "task": "image2image", "strength": 0.6}

    here, there = lab.generate(PROMPT, **QUICK, **given), lab.generate(PROMPT, **THERE, **given)

    assert _pixels(there.report) == _pixels(here.report)
    assert lab.journal.artifacts.read(there.report.artifacts[0].sha256).startswith(b"\x89PNG")


def test_submitted_jobs_run_side_by_side_and_each_hears_its_own_cancel_within_a_step(lab: Lab) -> None:
    first, second = _submit(lab, **ENDLESS), _submit(lab, **ENDLESS)
    _wait_for_a_step(first)
    _wait_for_a_step(second)
    assert (first.state, second.state) == ("running", "running")

    first.cancel()
    with pytest.raises(JobCancelledError):
        first.result(timeout=DEADLINE_S)

    assert second.state == "running"
    assert 1 <= len(first.report.steps) < 1_000
    assert all(stage.end_t_ns is not None for stage in first.report.stages)
    second.cancel()
    with pytest.raises(JobCancelledError):
        second.result(timeout=DEADLINE_S)
    assert first.report.worker_id != second.report.worker_id
    assert lab.generate(PROMPT, **THERE).report.worker_id in (first.report.worker_id, second.report.worker_id)


def test_the_cells_of_a_sweep_are_spread_over_all_actors(lab: Lab) -> None:
    swept = lab.sweep(PROMPT, seed=range(4), steps=30, execution_mode="ray", progress=False)

    assert [cell.state for cell in swept.cells] == ["succeeded"] * 4
    assert len({result.report.worker_id for result in swept.results if result is not None}) == 2


def test_ctrl_c_ends_all_runs_of_a_sweep_and_leaves_the_actors_usable(lab: Lab) -> None:
    def interrupt() -> None:
        _wait_until(lambda: len(_running(lab)) == 2)
        for job in _running(lab):
            _wait_for_a_step(_job(lab, job))
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    thread = threading.Thread(target=interrupt)
    thread.start()
    swept = lab.sweep(PROMPT, seed=range(100, 104), execution_mode="ray", progress=False, **ENDLESS)
    thread.join()

    assert swept.was_interrupted
    assert _running(lab) == []
    reports = [result.report for result in swept.results if result is not None]
    assert [report.state for report in reports] == ["cancelled"] * 2
    assert {lab.generate(PROMPT, **THERE).report.worker_id} <= {report.worker_id for report in reports}


def test_ctrl_c_cancels_a_run_and_leaves_its_actor_usable(lab: Lab) -> None:
    def interrupt(event: AnyEvent) -> None:
        if isinstance(event, Step) and event.data.index == 1:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        lab.generate(PROMPT, **{**THERE, **ENDLESS}, on_event=interrupt)

    report = lab.last_report()
    assert report.state == "cancelled"
    assert 2 <= len(report.steps) < 1_000
    assert all(stage.end_t_ns is not None for stage in report.stages)
    assert psutil.pid_exists(int(str(report.worker_id).rpartition("-")[2]))


def test_a_run_goes_to_the_actor_that_has_its_model(lab: Lab, tmp_path: Path) -> None:
    tiny.build("sdxl").save_pretrained(tmp_path / "sdxl")
    options = {**THERE, "model": str(tmp_path / "sdxl"), **tiny.SIZES["sdxl"]}

    reports = [lab.generate(PROMPT, **options).report for _ in range(2)]

    assert reports[0].worker_id == reports[1].worker_id
    assert "resident_pipeline" in reports[1].cache_hits


def test_what_is_wrong_with_a_request_is_said_before_there_is_a_job(lab: Lab) -> None:
    before = len(lab.journal.list_jobs())

    with pytest.raises(UnknownOptionError, match="colour"):
        lab.generate(PROMPT, **THERE, colour="red")

    assert len(lab.journal.list_jobs()) == before


def test_a_pipeline_that_raises_fails_once_with_its_own_error(lab: Lab) -> None:
    with pytest.raises(PipelineError, match="RuntimeError: the step broke") as caught:
        lab.generate(PROMPT, **{**THERE, "steps": 5}, options={"eta": environments.RAISE})

    report = lab.last_report()
    assert (report.state, len(report.backend_timeline), len(report.steps)) == ("failed", 1, 3)
    assert report.error is not None
    assert (report.error.type, report.error.stage) == ("RuntimeError", "denoise")
    assert "in fail" in str(caught.value.__cause__.__cause__)
    assert lab.generate(PROMPT, **THERE).report.state == "succeeded"


def test_a_killed_actor_costs_an_attempt_and_no_cell_of_a_sweep(lab: Lab) -> None:
    lost: list[RunReport] = []

    def kill() -> None:
        _wait_until(lambda: bool(_running(lab)))
        job = _job(lab, _running(lab)[0])
        _wait_for_a_step(job)
        lost.append(job.report)
        os.kill(int(str(job.report.worker_id).rpartition("-")[2]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    swept = lab.sweep(PROMPT, seed=range(200, 202), steps=STEPS, execution_mode="ray", progress=False, **SLOW)
    thread.join()

    assert [cell.state for cell in swept.cells] == ["succeeded"] * 2
    reports = {result.report.run_id: result.report for result in swept.results if result is not None}
    report = reports.pop(lost[0].run_id)
    assert [(span.attempt, span.state) for span in report.backend_timeline] == [(1, "lost"), (2, "succeeded")]
    assert (report.backend_timeline[0].worker_id, report.backend_timeline[0].end_t_ns) == (lost[0].worker_id, None)
    assert report.worker_id == report.backend_timeline[1].worker_id != lost[0].worker_id
    (warning,) = report.warnings
    assert warning.code == "attempt_lost"
    assert "attempt 1 of 3" in warning.message
    assert [step.index for step in report.steps] == list(range(STEPS)), "the steps of one attempt"
    names = [stage.name for stage in report.stages]
    assert (names.count("load"), names.count("denoise")) == (1, 1), "and its stages"
    assert report.stages[0].start_t_ns >= report.backend_timeline[1].start_t_ns
    assert [len(other.backend_timeline) for other in reports.values()] == [1]


def test_a_run_that_kills_every_actor_fails_after_three_attempts(lab: Lab) -> None:
    job = _submit(lab, steps=5, options={"eta": environments.DIE})

    with pytest.raises(PipelineError, match="3 attempts were lost"):
        job.result(timeout=DEADLINE_S)

    report = job.report
    assert [(span.attempt, span.state) for span in report.backend_timeline] == [
        (1, "lost"),
        (2, "lost"),
        (3, "failed"),
    ]
    assert report.error is not None
    assert (report.error.type, report.error.stage) == (ActorDiedError.__name__, "denoise")
    assert report.error.hint
    assert [warning.code for warning in report.warnings] == ["attempt_lost"] * 2
    assert isinstance(print, BuiltinFunctionType)  # Ray, which has said something of each, would put its own there


def _submit(lab: Lab, **options: object) -> Job:
    given = {**THERE, **options}
    del given["progress"]
    return lab.submit(PROMPT, **given)


def _job(lab: Lab, record: JobRecord) -> Job:
    return Job(lab.journal, record.job_id, record.run_id)


def _wait_for_a_step(job: Job) -> None:
    for event in job.events(timeout=DEADLINE_S):
        if isinstance(event, Step):
            return
    raise AssertionError(f"{job} ended without a step")


def _running(lab: Lab) -> list[JobRecord]:
    return lab.journal.list_jobs(states=("running",))


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _descendants() -> list[psutil.Process]:
    """The processes of this one's cluster."""
    return psutil.Process().children(recursive=True)


def _threads() -> list[str]:
    """Those of this process that a cluster or its runs have started."""
    own = ("omnirt-ray", "omnirt-spread", "omnirt-run")
    return [thread.name for thread in threading.enumerate() if thread.name in own]


def _pixels(report: RunReport) -> list[bytes]:
    return [pixels(content).tobytes() for content in report.pictures()]
