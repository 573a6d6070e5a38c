"""What a cell holds after its runs were live, kept by nbclient from a real kernel."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

BUNDLE = {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
STEPS = 60
"""So that a run takes longer than a live view waits before it shows itself."""

CELLS = {
    "setup": """
import omnirt_lab as lab
lab.generate("a small square", steps=2, progress=False)
lab.configure(live=True)
from pathlib import Path
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(Path(lab.__file__).parent / "tiny_shapes/weights")
pipe.set_progress_bar_config(disable=True)
lab.observe(pipe, name="mine")
None""",
    "one": f"result = lab.generate('a red circle', steps={STEPS}, seed=1)\nresult",
    "again": "result",
    "two": f"for prompt in ('the first', 'the second'):\n    lab.generate(prompt, steps={STEPS})",
    "unwanted": f"lab.generate('a red circle', steps={STEPS}, progress=False)",
    "short": "lab.generate('a red circle', steps=1)",
    "observed": f"pipe('an observed star', num_inference_steps={STEPS})\nNone",
    "failed": f"""
def fail(pipeline, index, timestep, values):
    if index == {STEPS - 5}:
        raise RuntimeError("the callback had enough")
    return values
pipe("a failing star", num_inference_steps={STEPS}, callback_on_step_end=fail)""",
    "off": f"lab.configure(live=False)\nlab.generate('a red circle', steps={STEPS})",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[nbformat.NotebookNode]]:
    """The outputs of each cell, but for what a library writes to stderr."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS.values()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIRT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    nbformat.validate(notebook)
    cells = zip(CELLS, notebook.cells, strict=True)
    return {name: [output for output in cell.outputs if output.output_type != "stream"] for name, cell in cells}


def shown(outputs: list[nbformat.NotebookNode]) -> list[set[str]]:
    return [set(output.data) for output in outputs if output.output_type != "error"]


def test_the_live_view_becomes_the_report_and_the_result_does_not_repeat_it(outputs):
    assert shown(outputs["one"]) == [BUNDLE, {"text/plain"}]
    assert "“a red circle”" in outputs["one"][0].data["text/plain"]
    assert outputs["one"][1].data["text/plain"].startswith("<GenerateResult")


def test_in_another_cell_the_result_shows_its_report(outputs):
    assert shown(outputs["again"]) == [BUNDLE]


def test_two_runs_of_a_cell_share_its_output_and_the_last_report_stays(outputs):
    assert shown(outputs["two"]) == [BUNDLE]
    assert "“the second”" in outputs["two"][0].data["text/plain"]


def test_without_progress_there_is_nothing_but_the_result(outputs):
    assert shown(outputs["unwanted"]) == [BUNDLE]
    assert outputs["unwanted"][0].output_type == "execute_result"


def test_a_run_that_has_ended_at_once_is_not_shown_before_its_result(outputs):
    assert shown(outputs["short"]) == [BUNDLE]
    assert outputs["short"][0].output_type == "execute_result"


def test_an_observed_call_leaves_its_report(outputs):
    assert shown(outputs["observed"]) == [BUNDLE]
    assert "mine" in outputs["observed"][0].data["text/plain"]


def test_a_call_that_fails_leaves_its_partial_report_above_its_own_error(outputs):
    report, error = outputs["failed"]

    assert set(report.data) == BUNDLE
    assert "failed" in report.data["text/plain"]
    assert (error.output_type, error.ename, error.evalue) == ("error", "RuntimeError", "the callback had enough")


def test_switched_off_it_is_a_line_of_text(outputs):
    assert shown(outputs["off"]) == [{"text/plain"}, BUNDLE]
    assert f"{STEPS}/{STEPS}" in outputs["off"][0].data["text/plain"]
