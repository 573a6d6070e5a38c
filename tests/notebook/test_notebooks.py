"""The notebooks of the repository, each executed from its first cell to its last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager

from tests.notebook.kernels import execute, running_kernel

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

BEGIN_ANEW = """
import os, sys

if "omnirt_lab.lab.api" in sys.modules:
    sys.modules["omnirt_lab.lab.api"].LAB.close()
for name in [name for name in sys.modules if name.partition(".")[0] == "omnirt_lab"]:
    del sys.modules[name]
get_ipython().extension_manager.loaded.discard("omnirt_lab")
os.chdir({folder!r})
os.environ["OMNIRT_STATE_DIR"] = {state_dir!r}
%reset -f
"""
"""Leaves nothing of the notebook before but the libraries that it loaded."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def kernel() -> Iterator[AsyncKernelManager]:
    with running_kernel() as manager:
        yield manager


@every_notebook
def test_a_notebook_runs_to_its_end(path: Path, kernel: AsyncKernelManager, tmp_path: Path, state_dir: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    begin_anew = BEGIN_ANEW.format(folder=str(tmp_path), state_dir=str(state_dir))
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin_anew))

    execute(notebook, kernel)

    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert shown
    assert [output for output in shown if output.output_type == "error"] == []


@every_notebook
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]

    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []
