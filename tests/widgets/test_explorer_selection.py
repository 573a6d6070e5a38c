"""The report explorer's page and selection, in Python and in the pure part of its script."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from IPython.core.formatters import DisplayFormatter
from msgspec.structs import replace
from PIL import Image

from omnirt_lab import Lab, RunReport
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal import ArtifactStore
from omnirt_lab.views.explorer import brushed, explorer_page
from omnirt_lab.widgets import explorer as module
from omnirt_lab.widgets.explorer import MAX_PICTURES, ReportExplorer, Selection
from tests import sample_events
from tests.sample_events import ALL, artifact, finished, picture, report_of

every_run = pytest.mark.parametrize("run", ALL.values(), ids=ALL.keys())

SCRIPT = Path(module.__file__).with_name("explorer.js")


def explored(events: list[Any] | None = None) -> ReportExplorer:
    return RunReport.of(report_of(events or sample_events.normal())).explore()


def sent(explorer: ReportExplorer, selection: object) -> None:
    """What a front end's message does."""
    message = {"content": {"data": {"method": "update", "state": {"selection": selection}, "buffer_paths": []}}}
    explorer._handle_msg({**message, "buffers": []})


@every_run
def test_every_run_can_be_explored_and_its_tables_have_a_cell_for_each_heading(run: Any):
    page = explored(run())._page

    assert list(page["tabs"]) == [
        "pictures", "waterfall", "memory", "cache", "placement", "configuration", "events", "diagnosis"
    ]  # fmt: skip
    for table in (table for tables in page["tabs"].values() for table in tables):
        assert {len(row) for row in table["rows"]} <= {len(table["header"])}
        assert len(table["spans_ms"]) in (0, len(table["rows"]))
        assert all(isinstance(cell, str) for row in table["rows"] for cell in row)


def test_a_run_that_never_began_can_be_explored():
    explorer = explored(sample_events.normal()[:1])

    assert (explorer._page["lanes"], explorer._page["curves"]) == ((), ())
    assert explorer.selection == Selection()


def test_figures_are_those_of_the_other_views():
    report = report_of(sample_events.cached())
    page = explorer_page(report)
    lanes = {lane.name: lane for lane in page.lanes}

    assert dict(lanes["denoise"].figures)["takes"] == "1.01 s"
    assert "saved 37.4 ms" in lanes["text_encoder"].note
    assert [bar.look for bar in lanes["text_encoder"].bars] == ["cached"]
    assert page.tabs["cache"][0].rows[1][3] == "37.4 ms"
    assert (page.curves[0].low, page.curves[0].high) == ("468 MiB", "561 MiB")
    assert page.tabs["diagnosis"][0].rows[1][2].startswith("denoise took 93 % of 1.08 s")


def test_a_step_has_the_events_that_come_after_the_step_before_it():
    page = explorer_page(report_of(sample_events.normal()))
    (steps,) = [lane for lane in page.lanes if lane.kind == "steps"]
    events = page.tabs["events"][0].rows

    assert [events[row][1] for row in steps.bars[3].events] == ["step", "memory"]
    assert events[steps.bars[3].events[0]][3].startswith("step 4, ")


def test_a_brush_has_the_figures_of_what_lies_in_it():
    figures = dict(brushed(report_of(sample_events.normal()), 150, 350).figures)

    assert figures["length"] == "200 ms"
    assert figures["text_encoder"] == "30.5 ms"
    assert figures["whole steps"].startswith("3 steps: median 52.0 ms")
    assert figures["memory on cpu"].startswith("at most 5")
    assert "load" not in figures


def test_a_selection_is_set_and_what_the_run_does_not_have_is_refused_with_a_hint():
    explorer = explored()
    seen: list[Selection] = []
    explorer.observe(lambda change: seen.append(change["new"]), "selection")

    explorer.select(stage="denoise", start_ms=100, end_ms=200.5)

    assert explorer.selection == seen[0] == Selection(stage="denoise", start_ms=100, end_ms=200.5)
    assert explorer._brushed["end_ms"] == 200.5
    wrong: list[dict[str, Any]] = [
        {"stage": "unknown"}, {"step": 20}, {"step": -1}, {"start_ms": 5}, {"start_ms": 5, "end_ms": 5},
        {"start_ms": 0, "end_ms": 1e6}, {"start_ms": -1, "end_ms": 5}, {"start_ms": 0, "end_ms": float("nan")},
        {"stage": "denoise", "step": 1},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises(InvalidRequestError) as caught:
            explorer.select(**fields)
        assert caught.value.hint
    assert explorer.selection == seen[0]
    explorer.select()
    assert explorer.selection == Selection()
    assert explorer._brushed == {}


def test_a_front_end_selects_and_what_it_cannot_mean_is_ignored_and_logged(caplog: pytest.LogCaptureFixture):
    explorer = explored()
    sent(explorer, {"start_ms": 100, "end_ms": 200.5, "stage": None, "step": 3})
    chosen = explorer.selection
    assert chosen == Selection(start_ms=100, end_ms=200.5, step=3)
    assert caplog.records == []

    for nonsense in (
        None, 7, "denoise", [], {"step": "3"}, {"step": True}, {"stage": ["denoise"]}, {"stage": "unknown"},
        {"step": 99}, {"start_ms": 5}, {"start_ms": 9, "end_ms": 5}, {"start_ms": 0, "end_ms": 1e300},
        {"stage": "denoise", "step": 1},
    ):  # fmt: skip
        caplog.clear()

        sent(explorer, nonsense)

        assert explorer.selection is chosen
        assert [record.name for record in caplog.records] == [module.__name__]


def test_a_front_end_cannot_change_what_is_shown():
    explorer = explored()
    page = explorer._page

    explorer.set_state({"_page": {}, "_pictures": 7, "selection": {"step": 1}})

    assert explorer._page is page
    assert explorer.selection == Selection(step=1)


def test_a_real_run_can_be_explored_stage_by_stage_and_step_by_step():
    with Lab() as lab:
        report = lab.generate("a red circle on a blue background", steps=3, seed=7, progress=False).report
        explorer = report.explore()

    assert explorer._pictures == report.pictures() != []
    for stage in {stage.name for stage in report.stages if stage.name != "queue"}:
        explorer.select(stage=stage)
    for step in range(3):
        explorer.select(step=step, start_ms=0, end_ms=explorer._page["total_ms"])
    assert dict(explorer._brushed["figures"])["whole steps"].startswith("3 steps: median ")


def test_pictures_are_sent_as_bytes_and_missing_or_too_many_ones_are_counted(state_dir: Path):
    report = report_of(finished(sample_events.denoised(sample_events.begun())).events)
    there, gone = picture(), picture(colour="#ffffff")
    pictures = (artifact(gone), *(artifact(there, index) for index in range(1, MAX_PICTURES + 3)))
    ArtifactStore(state_dir).put_bytes(there, "image/png")

    explorer = RunReport.of(replace(report, artifacts=pictures)).explore()

    assert explorer._pictures == [there] * MAX_PICTURES
    assert len(explorer._page["captions"]) == MAX_PICTURES
    assert explorer._page["pictures"].startswith("16 of 19 pictures: the others were purged")


def test_whoever_cannot_show_a_widget_has_the_card_and_the_text():
    explorer = explored()

    data, _ = DisplayFormatter().format(explorer)

    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 600
    assert "denoise" in data["text/plain"]
    assert repr(explorer) == "<ReportExplorer of run run-1>"


def test_the_script_is_small_and_writes_no_markup():
    script = SCRIPT.read_text(encoding="utf-8")

    assert len(script.encode()) < 20_000
    for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "http:", "https:", "import "):
        assert way not in script.replace("http://www.w3.org/2000/svg", "")


def test_the_scripts_scales_hits_and_keys_are_right(tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(SCRIPT, tmp_path)
    shutil.copy(Path(__file__).with_name("explorer.test.js"), tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", "explorer.test.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout
