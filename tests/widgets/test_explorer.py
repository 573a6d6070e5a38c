"""The report explorer in a real JupyterLab: mouse and keyboard move it, and its selection reaches the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace
from nbconvert import HTMLExporter

from omnirt_lab.records import RunReport
from tests import sample_events
from tests.notebook.jupyterlab import VIEWPORT, JupyterLab, Notebook
from tests.sample_events import picture, report_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = pytest.mark.browser

WICKED = '<img src=x onerror="window.hacked=1"> a red circle'
READ = """
import json, pathlib
from omnirt_lab import RunReport
cached, failed = (
    RunReport.from_dict(json.loads(pathlib.Path(f"{name}.json").read_text())) for name in ("cached", "failed")
)
"""
RUN, SELECTION, SELECT, FAILED, WAIT = range(1, 6)
NOTHING = r"^Selection\(start_ms=None, end_ms=None, stage=None, step=None\)$"
TOTAL_MS = 1079.0
LEFT_PX, RIGHT_PX = 168, 132
"""Beside the time axis, as `explorer.js` has them."""


def prompted(report: RunReport) -> RunReport:
    inputs = replace(report.request.inputs, prompt=WICKED)
    return replace(report, request=replace(report.request, inputs=inputs))


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab, browser: Browser) -> Iterator[Notebook]:
    """A notebook with the explorers of a run and of one that failed."""
    for name, events in (("cached", sample_events.cached()), ("failed", sample_events.failed())):
        (jupyterlab.root / f"{name}.json").write_bytes(msgspec.json.encode(prompted(report_of(events))))
    jupyterlab.serving.journal.artifacts.put_bytes(picture(), "image/png")
    path = jupyterlab.write(
        READ,
        "explorer = cached.explore()\nexplorer",
        "print(explorer.selection)",
        "explorer.select(step=3, start_ms=400, end_ms=600)",
        "failed.explore()",
        "import time\nwhile explorer.selection.step is None:\n    time.sleep(0.02)\nprint(explorer.selection.step)",
    )
    with jupyterlab.open(browser, path) as opened:
        opened.run(0)
        opened.run(RUN).locator(".omx-plot svg").first.wait_for()
        yield opened
    assert opened.problems == []
    assert opened.asked_elsewhere == []


@pytest.fixture
def explorer(notebook: Notebook) -> Locator:
    """The explorer, with nothing selected and its waterfall open."""
    found = notebook.output(RUN).locator(".omx")
    tab(found, "waterfall").click()
    found.get_by_role("button", name="Whole run").click()
    found.get_by_role("button", name="Clear").click()
    notebook.run_until(SELECTION, NOTHING)
    return found


def tab(explorer: Locator, name: str) -> Locator:
    return explorer.get_by_role("tab", name=name)


def panel(explorer: Locator) -> Locator:
    return explorer.locator("[role=tabpanel]:not([hidden])")


def plot(explorer: Locator) -> Locator:
    return explorer.get_by_role("application")


def drag(notebook: Notebook, explorer: Locator, start_share: float, end_share: float) -> None:
    """Brush between two shares of the time axis with the mouse."""
    box = plot(explorer).bounding_box()
    assert box is not None
    across = box["width"] - LEFT_PX - RIGHT_PX
    mouse, y = notebook.page.mouse, box["y"] + 40
    mouse.move(box["x"] + LEFT_PX + start_share * across, y)
    mouse.down()
    mouse.move(box["x"] + LEFT_PX + end_share * across, y, steps=4)
    mouse.up()


def test_a_brush_with_the_mouse_reaches_the_next_cell_with_its_figures(notebook: Notebook, explorer: Locator):
    drag(notebook, explorer, 0.25, 0.5)

    figures = explorer.locator(".omx-details section", has_text="share of the run")
    figures.get_by_text("whole steps").wait_for()
    said = notebook.run_until(SELECTION, r"start_ms=\d")
    start_ms, end_ms = (float(number) for number in re.findall(r"_ms=([\d.]+)", said))
    assert start_ms == pytest.approx(0.25 * TOTAL_MS, abs=5)
    assert end_ms == pytest.approx(0.5 * TOTAL_MS, abs=5)
    assert "stage=None, step=None" in said
    assert "at most" in figures.inner_text()
    tab(explorer, "events").click()
    assert "Events (" in panel(explorer).locator("caption").inner_text()


def test_arrow_keys_plus_minus_and_escape_work_where_jupyter_has_shortcuts_of_its_own(
    notebook: Notebook, explorer: Locator
):
    cells = notebook.page.locator(".jp-Notebook .jp-Cell").count()
    plot(explorer).focus()
    press = notebook.page.keyboard.press
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        press(key)
    explorer.get_by_role("status").filter(has_text="denoise: 1.01 s").wait_for()
    notebook.run_until(SELECTION, "stage='denoise'")
    plot(explorer).focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "+", "+"):
        press(key)
    explorer.get_by_role("status").filter(has_text="step 4: ").wait_for()
    ticks = plot(explorer).locator("text").all_inner_texts()

    said = notebook.run_until(SELECTION, "step=3")

    assert "start_ms=1.4" in said
    plot(explorer).focus()
    press("Escape")
    notebook.run_until(SELECTION, NOTHING)
    plot(explorer).focus()
    press("0")
    assert plot(explorer).locator("text").all_inner_texts() != ticks
    assert notebook.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_a_click_selects_a_stage_with_its_figures_and_events(notebook: Notebook, explorer: Locator):
    plot(explorer).locator(".omx-decode").click()

    details = explorer.locator(".omx-details")
    assert details.get_by_role("heading", name="vae_decode").is_visible()
    assert "561 MiB" in details.locator("dl").inner_text()
    assert [row.split("\t")[1] for row in details.locator("tbody tr").all_inner_texts()] == [
        "stage_start", "stage_end", "memory"
    ]  # fmt: skip
    notebook.run_until(SELECTION, "stage='vae_decode'")


def test_a_cell_that_runs_hears_what_is_selected_meanwhile(notebook: Notebook, explorer: Locator):
    notebook.start(WAIT)

    plot(explorer).locator(".omx-steps").nth(5).click()

    notebook.wait_until_idle()
    assert notebook.output(WAIT).inner_text().strip() == "5"


def test_a_cell_selects_and_the_explorer_shows_it(notebook: Notebook, explorer: Locator):
    notebook.run(SELECT)

    explorer.get_by_role("status").filter(has_text="step 4: ").wait_for()
    assert explorer.locator(".omx-brush").count() == 1
    assert explorer.locator(".omx-band").count() == 1


def test_arrow_keys_walk_the_tabs_and_each_shows_what_it_should(notebook: Notebook, explorer: Locator):
    shown = {
        "memory": "Memory readings",
        "cache": "resident_pipeline",
        "placement": "UNet2DConditionModel",
        "configuration": "guidance_scale",
        "events": "job_enqueued",
        "diagnosis": "denoise took",
        "pictures": "seed 7",
        "waterfall": "vae_decode",
    }
    tab(explorer, "waterfall").focus()
    for name, text in shown.items():
        notebook.page.keyboard.press("ArrowRight")

        assert tab(explorer, name).get_attribute("aria-selected") == "true"
        assert notebook.page.evaluate("document.activeElement.textContent") == name
        assert text in (panel(explorer).text_content() or "")
        assert panel(explorer).get_attribute("aria-labelledby") == tab(explorer, name).get_attribute("id")
    tab(explorer, "pictures").click()
    image = panel(explorer).locator("img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64


def test_the_waterfall_has_a_twin_of_tables_with_captions_and_headings(notebook: Notebook, explorer: Locator):
    panel(explorer).locator("summary").click()

    stages = panel(explorer).get_by_role("table", name="Stages")
    assert stages.get_by_role("columnheader").all_inner_texts()[:4] == ["stage", "begins", "takes", "share"]
    assert stages.get_by_role("rowheader").all_inner_texts() == [
        "text_encoder", "denoise", "vae_decode", "postprocess", "export"
    ]  # fmt: skip
    assert panel(explorer).get_by_role("table", name="Steps").get_by_role("rowheader").count() == 20
    panel(explorer).locator("summary").click()


def test_a_failed_run_shows_its_error_and_no_picture(notebook: Notebook):
    failed = notebook.run(FAILED).locator(".omx")

    failed.locator(".omx-error", has_text="RuntimeError in denoise").first.wait_for()
    assert plot(failed).locator(".omx-bar.omx-error").count() == 1
    tab(failed, "diagnosis").click()
    assert "Traceback (most recent call last)" in panel(failed).inner_text()
    notebook.screenshot("explorer-failed-diagnosis", of=failed)
    tab(failed, "pictures").click()
    assert panel(failed).inner_text() == "The run made no picture."
    tab(failed, "waterfall").click()
    notebook.screenshot("explorer-failed-waterfall", of=failed)


def test_markup_in_a_prompt_is_text_in_every_tab(notebook: Notebook, explorer: Locator):
    for name in ("configuration", "pictures", "diagnosis"):
        tab(explorer, name).click()

        assert explorer.locator(".omx-prompt").text_content() == WICKED
    assert explorer.locator("img[src=x]").count() == 0
    assert notebook.page.evaluate("window.hacked") is None


def test_it_looks_right_in_light_and_dark(notebook: Notebook, explorer: Locator):
    plot(explorer).locator(".omx-steps").nth(5).click()
    drag(notebook, explorer, 0.2, 0.6)
    explorer.get_by_text("whole steps").wait_for()
    inks = []
    for theme in ("light", "dark"):
        notebook.use_theme(theme)
        for name in ("pictures", "memory", "cache", "placement", "configuration", "events", "diagnosis", "waterfall"):
            tab(explorer, name).click()
            notebook.screenshot(f"explorer-{name}-{theme}", of=explorer)
        inks.append(plot(explorer).locator("text").first.evaluate("text => getComputedStyle(text).fill"))
    notebook.use_theme("light")
    notebook.page.set_viewport_size({"width": 780, "height": 900})
    notebook.screenshot("explorer-waterfall-narrow", of=explorer)
    notebook.page.set_viewport_size(VIEWPORT)

    assert inks[0] != inks[1]


def test_what_is_saved_is_seen_without_a_kernel(notebook: Notebook, jupyterlab: JupyterLab, browser: Browser):
    saved = notebook.save()

    data = saved.cells[RUN].outputs[0].data
    page, _ = HTMLExporter().from_notebook_node(saved)
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert "widgets" not in saved.metadata
    assert data["image/png"][:60] in page
    with jupyterlab.open(browser, notebook.path, kernel=False) as opened:
        opened.output(RUN).locator("img[src^='data:image/png']").wait_for()
