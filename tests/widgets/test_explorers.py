"""Every explorer in a real JupyterLab: mouse and keyboard move it, and what is selected reaches the kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from nbconvert import HTMLExporter

from tests.notebook.jupyterlab import VIEWPORT, JupyterLab, Notebook
from tests.widgets.explored import (
    BRUSH,
    BRUSHED,
    COMPARE,
    FAILED,
    FOUND,
    HISTORY,
    INDEX,
    NOTHING,
    RUN,
    SELECT,
    SELECTED,
    SELECTION,
    SET,
    WAIT,
)  # fmt: skip
from tests.widgets.parts import drag, panel, plot, row, rows, tab, transforms
from tests.widgets.written import WICKED

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

TOTAL_MS = 1079.0


def test_a_brush_with_the_mouse_reaches_the_next_cell_with_its_figures(notebook: Notebook, explorer: Locator):
    drag(notebook.page, explorer, 0.25, 0.5)

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
    drag(notebook.page, explorer, 0.2, 0.6)
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


def test_what_is_saved_is_seen_without_a_kernel(notebook: Notebook, jupyterlab: JupyterLab):
    saved = notebook.save()

    data = saved.cells[RUN].outputs[0].data
    page, _ = HTMLExporter().from_notebook_node(saved)
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"}
    assert "widgets" not in saved.metadata
    assert data["image/png"][:60] in page
    with jupyterlab.open(notebook.path, kernel=False) as opened:
        opened.output(RUN).locator("img[src^='data:image/png']").wait_for()
        assert "Selection(" in opened.output(SELECTION).inner_text()
        assert jupyterlab.sessions_of(opened) == []


def test_in_jupyterlab_one_zoom_is_laid_over_all_pictures_and_f_flips_through_them(sides_and_sweep: Notebook):
    shown = sides_and_sweep.run(COMPARE)
    stage = shown.get_by_role("application", name="Pictures")
    images = stage.locator("img")
    images.nth(2).evaluate("image => image.decode()")
    assert "”" in shown.get_by_text(WICKED).first.inner_text()
    sides_and_sweep.screenshot("compare-explorer-light", of=sides_and_sweep.cell(COMPARE))

    images.nth(1).hover()
    sides_and_sweep.page.keyboard.down("Control")
    sides_and_sweep.page.mouse.wheel(0, -200)
    sides_and_sweep.page.keyboard.up("Control")
    zoomed = transforms(images)
    stage.press("ArrowRight")
    moved = transforms(images)
    assert "scale(1.25" in zoomed[0]
    assert len(set(zoomed)) == len(set(moved)) == 1
    assert moved != zoomed

    stage.press("f")
    assert [image.is_visible() for image in images.all()] == [True, False, False]
    stage.press("f")
    assert [image.is_visible() for image in images.all()] == [False, True, False]
    stage.press("d")
    assert [image.is_visible() for image in images.all()] == [False, True, True]
    shown.get_by_text("A and B: difference").wait_for()
    sides_and_sweep.use_theme("dark")
    sides_and_sweep.screenshot("compare-explorer-dark", of=sides_and_sweep.cell(COMPARE))

    shown.get_by_label("Picture", exact=True).select_option("1")
    shown.get_by_text("A and B: no difference").wait_for()
    assert sides_and_sweep.run(INDEX).locator("pre").last.inner_text().strip() == "1"
    assert sides_and_sweep.page.evaluate("window.hacked") is None


def test_in_jupyterlab_what_is_brushed_is_a_dataframe_in_the_next_cell(sides_and_sweep: Notebook):
    sides_and_sweep.use_theme("light")
    shown = sides_and_sweep.run(BRUSH)
    shown.get_by_text("6 of 6 runs").wait_for()
    sides_and_sweep.screenshot("sweep-explorer-light", of=sides_and_sweep.cell(BRUSH))

    shown.get_by_role("group", name="guidance_scale").press("ArrowUp")
    box = shown.get_by_role("group", name="steps").locator(".oms-track").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    sides_and_sweep.page.mouse.move(middle, box["y"] + 2)
    sides_and_sweep.page.mouse.down()
    sides_and_sweep.page.mouse.move(middle, box["y"] + box["height"] * 0.6, steps=4)
    sides_and_sweep.page.mouse.up()

    shown.get_by_text("2 of 6 runs").wait_for()
    shown.get_by_text("as a table").click()
    sides_and_sweep.use_theme("dark")
    sides_and_sweep.screenshot("sweep-explorer-dark", of=sides_and_sweep.cell(BRUSH))
    sides_and_sweep.run_until(BRUSHED, re.escape("[(4, 5.0, 'succeeded'), (6, 5.0, 'failed')]"))
    assert shown.get_by_role("group", name="steps, 4 to 6").count() == 1

    sides_and_sweep.run(SET)
    shown.get_by_text("2 of 6 runs").wait_for()
    assert "[(6, 1.0, 'succeeded'), (6, 5.0, 'failed')]" in sides_and_sweep.run(BRUSHED).inner_text()
    shown.get_by_role("button", name="Clear brushes").click()
    shown.get_by_text("6 of 6 runs").wait_for()
    assert sides_and_sweep.page.evaluate("window.hacked") is None


def test_runs_are_found_sorted_out_and_selected_and_all_of_it_lasts(history: Notebook):
    table = history.run(HISTORY).locator(".omnirt-history")
    search = table.get_by_label("Find in prompts")
    table.get_by_text("43 runs", exact=True).wait_for()
    assert rows(table)[0] == "number 39, one of many"
    assert len(rows(table)) < 20, "rows out of view are not in the page"

    search.fill("CIRCLE")
    table.get_by_text("1 of 43 runs").wait_for()
    picture = row(table, "red circle").locator("img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 92
    search.fill("a ")
    table.get_by_role("button", name="Prompt").click()
    assert rows(table) == [WICKED, "a blue square", "a red circle, which has a picture"]
    assert history.page.evaluate("window.hacked") is None

    row(table, "blue square").locator(".text").click()
    row(table, "red circle").locator(".text").click(modifiers=["Control"])
    table.get_by_text("3 of 43 runs · 2 selected").wait_for()
    history.run_until(SELECTED, re.escape("['a blue square', 'a red circle, which has a picture']"))

    history.run(FOUND)
    table.get_by_text("3 of 43 runs · 1 selected").wait_for()
    row(table, "blue square").and_(table.locator("[aria-selected=true]")).wait_for()
    row(table, "red circle").locator(".mark input").check()

    sort_out(history, table)
    take_pictures(history, table)
    throw_away_and_take_back(table)
    saved = history.save()
    assert "number 39, one of many" in saved.cells[HISTORY].outputs[0]["data"]["text/plain"]

    history.close()
    history.open()
    history.wait_for_kernel()
    again = history.output(HISTORY).locator(".omnirt-history")
    again.get_by_label("tag", exact=True).select_option("good")
    again.get_by_text("2 of 43 runs").wait_for()
    assert row(again, "blue square").locator(".star.on").count() == 4
    assert row(again, "blue square").locator(".note").text_content() == "the blue is right"


def sort_out(notebook: Notebook, table: Locator) -> None:
    """Tags for both that are selected, a rating and a note for one, a tag that is refused, and the keys of all that."""
    row(table, "blue square").locator(".tags").click()
    table.get_by_label("tags").fill("good, for the paper")
    table.get_by_label("tags").press("Enter")
    row(table, "red circle").get_by_text("for the paper").wait_for()
    notebook.page.keyboard.press("4")
    row(table, "blue square").locator(".star.on").nth(3).wait_for()
    for key in ("d", "d", "x", "n"):
        notebook.page.keyboard.press(key)
    table.get_by_label("note").fill("the blue is right")
    table.get_by_label("note").press("Enter")
    row(table, "blue square").get_by_text("the blue is right").wait_for()
    notebook.page.keyboard.press("t")
    table.get_by_label("tags").fill("x" * 101)
    table.get_by_label("tags").press("Enter")
    assert notebook.cell(FOUND).count() == 1, "no key of the table reaches the notebook, where d d deletes a cell"
    table.get_by_role("alert").filter(has_text="is no tag. Give 1 to 100 characters").wait_for()


def take_pictures(notebook: Notebook, table: Locator) -> None:
    table.get_by_label("Find in prompts").fill("")
    for theme in ("light", "dark"):
        notebook.use_theme(theme)
        table.scroll_into_view_if_needed()
        notebook.screenshot(f"history-explorer-{theme}")


def throw_away_and_take_back(table: Locator) -> None:
    table.get_by_role("button", name="Trash").click()
    table.get_by_text("2 runs in the trash; deleting for good frees about").wait_for()
    table.get_by_text("41 runs", exact=True).wait_for()
    table.get_by_label("Trash (2)").check()
    row(table, "blue square").locator(".text").click()
    table.get_by_role("button", name="Delete for good").click()
    table.get_by_role("button", name="Really delete 1 run?").wait_for()
    table.get_by_role("button", name="Put back").click()
    table.get_by_text("1 run taken out of the trash").wait_for()
    row(table, "red circle").locator(".text").click()
    table.get_by_role("button", name="Put back").click()
    table.get_by_label("Trash (0)").uncheck()
    table.get_by_text("43 runs", exact=True).wait_for()
