"""Notebooks that nbclient executes in a real kernel, and what their cells hold afterwards without one."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import nbformat
import pytest
from nbconvert import HTMLExporter
from PIL import Image

from tests.notebook.kernels import execute, running_kernel

PROMPT = "a red circle on a <blue> background"
BUNDLE = {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
STEPS = 60
"""So that a run takes longer than a live view waits before it shows itself."""

SAVED = (
    "%load_ext omnirt_lab",
    f"%omnirt {PROMPT} --steps 4 --seed 7",
    "%omnirt history",
    f"sweep = %omnirt sweep {PROMPT} --steps 2,3 --seed 1..2\nsweep",
    "import omnirt_lab as lab\nlab.compare(sweep.results[0], sweep.results[3])",
)

LIVE = {
    "setup": """
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


def notebook_of(cells: Iterable[str]) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The notebooks of `SAVED` and `LIVE`, executed; nobody changes them."""
    saved, live = notebook_of(SAVED), notebook_of(LIVE.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIRT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        with running_kernel() as kernel:
            execute(saved, kernel)
            execute(live, kernel, allow_errors=True)
    return saved, live


@pytest.fixture(scope="module")
def executed(notebooks: tuple[nbformat.NotebookNode, nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """The notebook whose runs were not live."""
    return notebooks[0]


@pytest.fixture(scope="module")
def outputs(
    notebooks: tuple[nbformat.NotebookNode, nbformat.NotebookNode],
) -> dict[str, list[nbformat.NotebookNode]]:
    """The outputs of each cell whose runs were live, but for what a library writes to stderr."""
    cells = zip(LIVE, notebooks[1].cells, strict=True)
    return {name: [output for output in cell.outputs if output.output_type != "stream"] for name, cell in cells}


def test_a_saved_notebook_shows_its_report_without_a_kernel(executed: nbformat.NotebookNode) -> None:
    (result,) = [output for output in executed.cells[1].outputs if output.output_type == "execute_result"]

    assert set(result.data) == BUNDLE
    picture = Image.open(io.BytesIO(base64.b64decode(result.data["image/png"])))
    assert picture.width > 600
    assert PROMPT in result.data["text/plain"]
    assert "denoise" in result.data["text/plain"]


def test_it_holds_no_widget_and_no_html(executed: nbformat.NotebookNode) -> None:
    mime_types = {kind for output in executed.cells[1].outputs for kind in output.get("data", {})}

    assert mime_types == BUNDLE
    assert "widgets" not in executed.metadata
    assert all(output.output_type != "stream" for output in executed.cells[1].outputs)


def test_a_sweep_and_a_comparison_are_kept_as_plain_bundles_too(executed: nbformat.NotebookNode) -> None:
    progress, swept = executed.cells[3].outputs
    (compared,) = executed.cells[4].outputs
    assert set(swept.data) == set(compared.data) == BUNDLE
    assert set(progress.data) == {"text/plain"}
    assert "4/4" in progress.data["text/plain"]
    assert "4 of 4 cells succeeded" in swept.data["text/plain"]
    assert "widgets" not in executed.metadata


def test_it_becomes_a_page_that_shows_the_report_and_no_markup_of_the_prompt(executed: nbformat.NotebookNode) -> None:
    page, _ = HTMLExporter().from_notebook_node(executed)

    assert "denoise" in page
    assert "<blue>" not in page


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
