"""The live view's half in the browser, as a module; and what it needs of ipykernel."""

from __future__ import annotations

import logging
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from ipykernel.comm.comm import BaseComm

from omnirt_lab.journal import Journal
from omnirt_lab.records import JobFinishedData, RunReport, StageStartData
from omnirt_lab.widgets.cell import Cell, CellOutput
from omnirt_lab.widgets.hearing import hear_while_busy
from omnirt_lab.widgets.live_view import LiveView
from tests.journal.writing import begin, wish

MODULE = Path(__file__).parents[2] / "omnirt_lab/widgets/live.js"


def test_its_pure_functions_do_what_they_say(tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(MODULE, tmp_path / MODULE.name)
    shutil.copy(Path(__file__).with_name("live.test.js"), tmp_path / "live.test.js")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", "live.test.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout


def test_it_is_small_and_takes_nothing_from_elsewhere():
    source = MODULE.read_text(encoding="utf-8")

    assert len(source.encode()) < 20_000
    assert "import" not in source
    assert "innerHTML" not in source
    assert source.count("http") == source.count("http://www.w3.org/2000/svg") == 1


def test_ipykernel_would_send_its_messages_to_the_busy_thread_and_does_no_more():
    comm = BaseComm(target_name="jupyter.widget", comm_id="0")
    comm._reply_subshell_id = None  # what it notes when the thread that runs a cell uses the comm
    assert comm._reply_subshell_for({"method": "custom"}, "a subshell") is None

    hear_while_busy(comm)

    assert comm._reply_subshell_for({"method": "custom"}, "a subshell") == "a subshell"


def test_a_comm_that_has_no_such_route_is_left_alone():
    comm = object()

    hear_while_busy(comm)

    assert not hasattr(comm, "_reply_subshell_for")


def run_with_view(state_dir: Path, bundle_of: Any) -> CellOutput:
    """A run that lasts until its view is shown, and then ends."""
    is_shown = threading.Event()
    output = CellOutput(Cell(id="1", has_person=True))
    with Journal.open(state_dir) as journal, journal.worker() as worker:
        writer = begin(journal, worker, wish("a circle"))
        view = LiveView(journal, writer.job, output, bundle_of=bundle_of, on_shown=is_shown.set)
        for event in writer.events:
            view.hear(event)
        writer.listeners.append(view.hear)
        with view:
            writer.emit(StageStartData(device="cpu"), stage="denoise")
            assert is_shown.wait(30)
            writer.finish(JobFinishedData())
    return output


def test_in_the_end_it_has_heard_everything(state_dir: Path):
    reports: list[RunReport] = []

    def bundle_of(report: RunReport) -> dict[str, str]:
        reports.append(report)
        return {"text/plain": "the report"}

    output = run_with_view(state_dir, bundle_of)

    assert [report.state for report in reports] == ["succeeded"]
    assert output.run_id == reports[0].run_id
    assert [thread.name for thread in threading.enumerate() if thread.name == "omnirt-live"] == []


def test_what_fails_in_it_is_logged_and_leaves_the_report_as_text(
    state_dir: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    def bundle_of(report: RunReport) -> dict[str, str]:
        raise OSError("no picture")

    with caplog.at_level(logging.WARNING):
        run_with_view(state_dir, bundle_of)

    assert "no picture" in caplog.text
    assert "succeeded" in capsys.readouterr().out
