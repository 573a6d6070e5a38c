"""The live view in a real JupyterLab: it moves while the cell is busy, Stop stops, and nothing of it stays behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import nbformat
import pytest

from omnirt_lab.journal import RunQuery
from omnirt_lab.records import JobCancelled, Step
from tests.notebook.jupyterlab import JupyterLab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

BUNDLE = {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
WICKED = "a red circle <img src=x onerror=window.hacked=1>"
SETUP = """
import omnirt_lab as lab
from diffusers.utils import logging
logging.disable_progress_bar()
%load_ext omnirt_lab
%omnirt a small square --steps 2
""".strip()

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab, browser: Browser) -> Iterator[Notebook]:
    """A notebook whose kernel has loaded the model; each test has a cell of its own."""
    cells = [
        SETUP,
        f"%omnirt {WICKED} --steps 80 --seed 3 --num-images 8",
        f"%omnirt {WICKED} --steps 100 --num-images 16",
        "job = lab.submit('a blue circle', steps=60)\nfinished = job.result()\nfinished",
    ]
    with jupyterlab.open(browser, jupyterlab.write(*cells)) as opened:
        opened.run(0)
        yield opened
    assert opened.problems == []
    assert opened.asked_elsewhere == []


def live(notebook: Notebook, index: int) -> Locator:
    view = notebook.output(index).locator(".omnirt-live")
    view.wait_for(timeout=30_000)
    return view


def step_of(view: Locator) -> int:
    """The step that the headline names."""
    return int(view.locator(".omnirt-headline").inner_text().split()[1])


def outputs_of(saved: nbformat.NotebookNode, index: int) -> list[set[str]]:
    return [set(output.get("data", {})) for output in saved.cells[index].outputs if output.output_type != "stream"]


def test_it_moves_while_the_cell_is_busy_and_ends_as_the_report(
    notebook: Notebook, jupyterlab: JupyterLab, browser: Browser
):
    notebook.start(1)
    view = live(notebook, 1)
    first, early = step_of(view), view.locator(".omnirt-step, .omnirt-step_odd").count()
    notebook.page.wait_for_function(
        """([first, early]) => {
            const bars = document.querySelectorAll('.omnirt-step, .omnirt-step_odd').length;
            const step = Number(document.querySelector('.omnirt-headline').textContent.split(' ')[1]);
            return step > first && bars > early;
        }""",
        arg=[first, early],
    )
    picture = view.locator(".omnirt-preview")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert view.locator(".omnirt-prompt").inner_text() == WICKED
    assert view.locator(".omnirt-name").all_inner_texts()[-3:-1] == ["denoise", "steps"]
    assert view.locator(".omnirt-curve polyline").get_attribute("points")
    notebook.screenshot("live-light", of=view)
    notebook.use_theme("dark")
    notebook.screenshot("live-dark", of=view)
    notebook.use_theme("light")
    notebook.wait_until_idle()

    view.wait_for(state="detached")
    notebook.output(1).locator(".js-plotly-plot, img").first.wait_for()
    notebook.screenshot("live-ended", of=notebook.output(1))
    saved = notebook.save()
    assert outputs_of(saved, 1) == [BUNDLE, {"text/plain"}]
    assert "widgets" not in saved.metadata
    assert notebook.page.evaluate("window.hacked") is None
    with jupyterlab.open(browser, notebook.path, kernel=False) as seen:
        report = seen.output(1).locator(".js-plotly-plot, img").first
        report.wait_for()
        seen.screenshot("live-reopened", of=seen.output(1))
        assert "no kernel" in seen.page.locator("#jp-main-statusbar").inner_text().lower()
        assert seen.page.evaluate("window.hacked") is None


def test_stop_stops_within_two_steps_while_the_cell_is_busy(notebook: Notebook, jupyterlab: JupyterLab):
    notebook.start(2)
    view = live(notebook, 2)
    view.locator(".omnirt-headline", has_text="step").wait_for()
    button = view.get_by_role("button", name="Stop")
    button.evaluate("button => button.addEventListener('click', () => { window.pressedAt = Date.now(); })")
    button.click()
    notebook.wait_until_idle()

    journal = jupyterlab.serving.journal
    (run,) = journal.query_runs(RunQuery(limit=1))
    events = journal.events(journal.list_jobs(limit=1)[0].job_id)
    pressed_ms = notebook.page.evaluate("window.pressedAt")
    assert run.state == "cancelled"
    assert isinstance(events[-1], JobCancelled)
    assert events[-1].data.reason == "requested"
    assert len([e for e in events if isinstance(e, Step) and e.timestamp_ms > pressed_ms]) <= 2
    saved = notebook.save()
    assert outputs_of(saved, 2)[0] == BUNDLE
    assert [o.ename for o in saved.cells[2].outputs if o.output_type == "error"] == ["JobCancelledError"]
    assert "widgets" not in saved.metadata


def test_a_job_that_is_waited_for_is_watched_too(notebook: Notebook):
    notebook.start(3)
    view = live(notebook, 3)
    view.locator(".omnirt-headline", has_text="step").wait_for()
    notebook.wait_until_idle()

    saved = notebook.save()
    report, result = saved.cells[3].outputs
    assert set(report.data) == BUNDLE
    assert "succeeded" in report.data["text/plain"]
    assert set(result.data) == {"text/plain"}
