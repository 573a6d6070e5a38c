"""A notebook that nbclient executes in a real kernel, and what it holds afterwards without one."""

from __future__ import annotations

import base64
import io

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

PROMPT = "a red circle on a <blue> background"
BUNDLE = {"application/vnd.plotly.v1+json", "image/png", "text/plain"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook after a run in a kernel of its own; nobody changes it."""
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("%load_ext omnirt_lab"),
            nbformat.v4.new_code_cell(f"%omnirt {PROMPT} --steps 4 --seed 7"),
            nbformat.v4.new_code_cell("%omnirt history"),
            nbformat.v4.new_code_cell(f"sweep = %omnirt sweep {PROMPT} --steps 2,3 --seed 1..2\nsweep"),
            nbformat.v4.new_code_cell("import omnirt_lab\nomnirt_lab.compare(sweep.results[0], sweep.results[3])"),
        ]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMNIRT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.validate(notebook)
    return notebook


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
