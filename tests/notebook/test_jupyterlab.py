"""The browser fixture itself: JupyterLab opens a notebook, runs it, saves it, and asks nobody else for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.notebook.jupyterlab import JupyterLab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.browser
def test_a_cell_runs_and_its_output_is_saved_and_seen_without_a_kernel(jupyterlab: JupyterLab, browser: Browser):
    path = jupyterlab.write("print('a' + 'b')", "2 * 21")
    with jupyterlab.open(browser, path) as notebook:
        assert notebook.run(0).inner_text().strip() == "ab"
        notebook.run_all()
        notebook.use_theme("dark")
        saved = notebook.save()

    assert saved.cells[1].outputs[0].data["text/plain"] == "42"
    with jupyterlab.open(browser, path, kernel=False) as notebook:
        assert "42" in notebook.output(1).inner_text()
        assert notebook.page.locator('body[data-jp-theme-light="true"]').count() == 1
        assert jupyterlab.serving.client.get("/api/kernels").json() == []
    assert notebook.problems == []
    assert notebook.asked_elsewhere == []
