"""Runs in a real JupyterLab: the live view moves while a cell is busy, Stop stops, and nothing of it stays behind.

The control panel works beside cells, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import nbformat
import pytest

from omnirt_lab.records import JobCancelled, Step
from tests.notebook.jupyterlab import JupyterLab, Notebook
from tests.server.running import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Locator

BUNDLE = {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
DRAWN = ".js-plotly-plot, img"
WICKED = "a red circle <img src=x onerror=window.hacked=1>"
TYPESET = "<img src=x onerror=window.hacked=1> $a$ circle"
PANEL = 4
SETUP = """
import omnirt_lab as lab
from diffusers.utils import logging
logging.disable_progress_bar()
%load_ext omnirt_lab
%omnirt a small square --steps 2
""".strip()

HEADLINES = """() => {
    window.headlines = new Set();
    const look = () => {
        for (const line of document.querySelectorAll('.omnirt-live .omnirt-headline')) headlines.add(line.textContent);
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
"""Keeps what live views say from now on: a short run's view may be gone before somebody looks."""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab) -> Iterator[Notebook]:
    """A notebook whose kernel has loaded the model; each test has a cell of its own."""
    cells = [
        SETUP,
        f"%omnirt {WICKED} --steps 900 --num-images 32",
        f"%omnirt {WICKED} --steps 60 --seed 3",
        "job = lab.submit('a blue circle', steps=60)\nfinished = job.result()\nfinished",
        "panel = lab.panel()\npanel",
        "import time\nwhile len(panel.reports) < 2: time.sleep(0.05)\n[r.state for r in panel.reports]",
    ]
    with jupyterlab.open(jupyterlab.write(*cells)) as opened:
        opened.run(0)
        yield opened


def live(notebook: Notebook, index: int) -> Locator:
    view = notebook.output(index).locator(".omnirt-live")
    view.wait_for()
    return view


def headlines_of_run(notebook: Notebook, index: int) -> list[str]:
    """Run a cell to its end; what its live view has said."""
    notebook.page.evaluate(HEADLINES)
    notebook.run(index)
    return list(notebook.page.evaluate("[...window.headlines]"))


def step_of(view: Locator) -> int:
    """The step that the headline names, once it names one."""
    headline = view.locator(".omnirt-headline").filter(has_text=re.compile(r"^step \d+ "))
    return int(headline.inner_text().split()[1])


def outputs_of(saved: nbformat.NotebookNode, index: int) -> list[nbformat.NotebookNode]:
    """The outputs of a cell, but for what a library writes to stderr."""
    return [output for output in saved.cells[index].outputs if output.output_type != "stream"]


def test_it_moves_while_the_cell_is_busy_and_stop_stops_within_two_steps(notebook: Notebook, jupyterlab: JupyterLab):
    notebook.start(1)
    view = live(notebook, 1)
    bars = view.locator(".omnirt-step, .omnirt-step_odd")
    first, early = step_of(view), bars.count()
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

    button = view.get_by_role("button", name="Stop")
    button.evaluate("button => button.addEventListener('click', () => { window.pressedAt = Date.now(); })")
    button.click()
    notebook.wait_until_idle()

    pressed_ms = notebook.page.evaluate("window.pressedAt")
    events = jupyterlab.serving.journal.events(jupyterlab.serving.journal.list_jobs(limit=1)[0].job_id)
    assert isinstance(events[-1], JobCancelled)
    assert events[-1].data.reason == "requested"
    assert len([event for event in events if isinstance(event, Step) and event.timestamp_ms > pressed_ms]) <= 2
    view.wait_for(state="detached")
    notebook.screenshot("live-stopped", of=notebook.output(1))
    saved = notebook.save()
    report, error = outputs_of(saved, 1)
    assert set(report.data) == BUNDLE
    assert "cancelled" in report.data["text/plain"]
    assert error.ename == "JobCancelledError"
    assert error.traceback[0] == f"JobCancelledError: {error.evalue}"
    assert "omnirt_lab.get_report" in error.traceback[1]
    assert "widgets" not in saved.metadata


def test_it_ends_as_the_report_which_is_there_without_a_kernel(notebook: Notebook, jupyterlab: JupyterLab):
    assert any("step" in line for line in headlines_of_run(notebook, 2))

    report = notebook.output(2).locator(DRAWN)
    report.first.wait_for()
    notebook.screenshot("live-ended", of=notebook.output(2))
    saved = notebook.save()
    assert [set(output.data) for output in outputs_of(saved, 2)] == [BUNDLE, {"text/plain"}]
    assert "widgets" not in saved.metadata
    assert notebook.page.evaluate("window.hacked") is None
    with jupyterlab.open(notebook.path, kernel=False) as seen:
        seen.output(2).locator(DRAWN).first.wait_for()
        seen.screenshot("live-reopened", of=seen.output(2))
        assert "no kernel" in seen.page.locator("#jp-main-statusbar").inner_text().lower()
        assert seen.page.evaluate("window.hacked") is None


def test_a_job_that_is_waited_for_is_watched_too(notebook: Notebook):
    assert any("step" in line for line in headlines_of_run(notebook, 3))

    report, result = outputs_of(notebook.save(), 3)
    assert set(report.data) == BUNDLE
    assert "succeeded" in report.data["text/plain"]
    assert set(result.data) == {"text/plain"}


def test_by_the_panel_a_picture_is_run_a_run_is_stopped_and_an_error_is_read(notebook: Notebook):
    shown = notebook.run(PANEL)
    shown.get_by_label("Prompt").fill(TYPESET)
    shown.get_by_label("Steps").fill("3")
    shown.get_by_label("Guidance").fill("2.5")
    shown.get_by_role("button", name="New seed").press("Enter")
    shown.get_by_role("button", name="Run", exact=True).click()
    shown.get_by_text("succeeded in").first.wait_for()
    card = shown.get_by_role("button", name=TYPESET).first
    assert shown.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    notebook.screenshot("panel-light", of=notebook.cell(PANEL))

    notebook.start(PANEL + 1)  # from here on the kernel is busy
    shown.get_by_label("Prompt").fill("a long run")
    shown.get_by_label("Steps").fill("1000")
    shown.get_by_label("How many").fill("8")
    shown.get_by_role("button", name="Run", exact=True).click()
    shown.get_by_text("of 1,000 ·").wait_for()
    shown.get_by_label("Width").fill("63")
    shown.get_by_role("button", name="Queue").press("Space")
    shown.get_by_role("alert").get_by_text("width is 63").wait_for()
    notebook.use_theme("dark")
    notebook.screenshot("panel-dark", of=notebook.cell(PANEL))
    shown.get_by_role("button", name="Stop").click()
    shown.get_by_text("cancelled after").wait_for()

    assert shown.get_by_label("Width").input_value() == "63"
    card.click()
    wait_for(lambda: shown.get_by_label("Prompt").input_value() == TYPESET, "the settings in the form")
    assert shown.get_by_label("Steps").input_value() == "3"
    notebook.output(PANEL + 1).get_by_text("['cancelled', 'succeeded']").wait_for()
    assert notebook.page.evaluate("window.hacked") is None
