"""The explorers of comparisons and sweeps, in a real JupyterLab."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw
from traitlets import TraitError

from omnirt_lab import Lab, Sweep
from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal import Journal
from omnirt_lab.lab.plan import plan_of
from omnirt_lab.records import Artifact, ErrorInfo, JobFailedData
from tests.journal.writing import begin, run, wish
from tests.notebook.jupyterlab import WAIT_MS, JupyterLab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

WICKED = "<img src=x onerror=window.hacked=1>"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as opened:
        yield opened


def pictured(journal: Journal, colour: str) -> Artifact:
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 50, 50), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return journal.artifacts.put_bytes(buffer.getvalue(), "image/png", width_px=64, height_px=64)


def transforms(images: Locator) -> list[str]:
    found: list[str] = images.evaluate_all("images => images.map(image => image.style.transform)")
    return found


def swept(journal: Journal, prompt: str, options: dict[str, list[float]], name: str) -> None:
    """The runs of a sweep, the last one failed."""
    *requests, last = plan_of(prompt, options).requests
    with journal.worker() as worker:
        for request in requests:
            journal.tag(run(journal, worker, request, artifacts=(pictured(journal, "teal"),)).run_id, f"sweep:{name}")
        failed = begin(journal, worker, last).finish(JobFailedData(error=ErrorInfo(type="ValueError", message=WICKED)))
        journal.tag(failed.run_id, f"sweep:{name}")


OPTIONS: dict[str, list[float]] = {"steps": [2, 4, 6], "guidance_scale": [1.0, 5.0]}


def found(lab: Lab) -> Sweep:
    """The sweep `brushed` of the history; nothing runs."""
    return Sweep(lambda: lab.engine, plan_of(WICKED, OPTIONS), "brushed").resume(progress=False)


def test_a_selection_is_what_all_brushes_leave_with_failed_runs_in_their_place(lab: Lab):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    explorer = found(lab).explore()

    assert len(explorer.selection) == 6
    explorer.brushes = [{"axis": 0, "low": 0.4, "high": 1}, {"axis": 1, "low": 0.5, "high": 1}]
    assert list(explorer.selection.index) == [3, 5]
    assert list(explorer.selection.state) == ["succeeded", "failed"]
    denoise = [axis["label"] for axis in explorer.page["axes"]].index("denoise")
    explorer.brushes = [{"axis": denoise, "low": 0, "high": 1}]
    assert 5 not in explorer.selection.index


@pytest.mark.parametrize(
    "brushes",
    [
        [{"axis": 9, "low": 0, "high": 1}],
        [{"axis": -1, "low": 0, "high": 1}],
        [{"axis": 0, "low": 1, "high": 0}],
        [{"axis": 0, "low": "all", "high": 1}],
        ["steps"],
    ],
)
def test_what_is_no_brush_is_refused_and_the_selection_stays(lab: Lab, brushes: list[object]):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    explorer = found(lab).explore()
    explorer.brushes = [{"axis": 0, "low": 0.9, "high": 1}]

    with pytest.raises(TraitError, match=r"no brushes|5 axes"):
        explorer.brushes = brushes

    assert len(explorer.selection) == 2


def test_a_figure_has_a_line_for_each_run_that_succeeded_and_needs_two(lab: Lab):
    swept(lab.journal, WICKED, OPTIONS, "brushed")
    figure = found(lab).figure()

    assert len(figure.data[0].line.color) == 5
    with pytest.raises(InvalidRequestError, match="0 of 2 cells succeeded"):
        Sweep(lambda: lab.engine, plan_of("a circle", {"steps": [1, 2]}), "nothing").figure()


def test_the_browser_gets_a_picture_that_there_is(lab: Lab):
    with lab.journal.worker() as worker:
        first, other = (
            run(lab.journal, worker, artifacts=tuple(pictured(lab.journal, colour) for colour in colours))
            for colours in (("red", "blue"), ("red",))
        )
    explorer = lab.compare(first, other).explore()

    assert [picture["label"] for picture in explorer.pictures] == ["", "no difference"]
    explorer.index = 9
    assert explorer.index == 1
    assert [picture["content"] is None for picture in explorer.pictures] == [False, True]
    assert explorer.pictures[1]["label"] == "nothing to compare"


SWEEP = """
from omnirt_lab.lab.api import LAB
from omnirt_lab.lab.plan import plan_of
from omnirt_lab.lab.sweep import Sweep
sweep = Sweep(lambda: LAB.engine, plan_of({prompt!r}, {options}), "brushed").resume()
explorer = sweep.explore()
explorer
"""
COMPARE, INDEX, BRUSH, SELECTION, SET = range(5)


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab, browser: Browser) -> Iterator[Notebook]:
    """One notebook for both explorers, over runs that another process has made; no torch is loaded."""
    journal = jupyterlab.serving.journal
    with journal.worker() as worker:
        runs = [
            run(journal, worker, wish(prompt), artifacts=(pictured(journal, first), pictured(journal, "black")))
            for prompt, first in (("a red circle", "crimson"), (WICKED, "teal"), ("a third", "gold"))
        ]
    ids = ", ".join(repr(report.run_id) for report in runs)
    swept(journal, WICKED, OPTIONS, "brushed")
    path = jupyterlab.write(
        f"import omnirt_lab as lab\nsides = lab.compare({ids}).explore()\nsides",
        "sides.index",
        SWEEP.format(prompt=WICKED, options=OPTIONS).strip(),
        "list(zip(explorer.selection.steps, explorer.selection.guidance_scale, explorer.selection.state))",
        "explorer.brushes = [dict(axis=0, low=0.9, high=1.0)]",
    )
    with jupyterlab.open(browser, path) as opened:
        opened.page.set_default_timeout(WAIT_MS)
        yield opened


@pytest.mark.browser
def test_in_jupyterlab_one_zoom_is_laid_over_all_pictures_and_f_flips_through_them(notebook: Notebook):
    shown = notebook.run(COMPARE)
    stage = shown.get_by_role("application", name="Pictures")
    images = stage.locator("img")
    images.nth(2).evaluate("image => image.decode()")
    assert "”" in shown.get_by_text(WICKED).first.inner_text()
    notebook.screenshot("compare-explorer-light", of=notebook.cell(COMPARE))

    images.nth(1).hover()
    notebook.page.keyboard.down("Control")
    notebook.page.mouse.wheel(0, -200)
    notebook.page.keyboard.up("Control")
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
    notebook.use_theme("dark")
    notebook.screenshot("compare-explorer-dark", of=notebook.cell(COMPARE))

    shown.get_by_label("Picture", exact=True).select_option("1")
    shown.get_by_text("A and B: no difference").wait_for()
    assert notebook.run(INDEX).locator("pre").last.inner_text().strip() == "1"
    assert notebook.page.evaluate("window.hacked") is None
    assert notebook.problems == []
    assert notebook.asked_elsewhere == []


@pytest.mark.browser
def test_in_jupyterlab_what_is_brushed_is_a_dataframe_in_the_next_cell(notebook: Notebook):
    notebook.use_theme("light")
    shown = notebook.run(BRUSH)
    shown.get_by_text("6 of 6 runs").wait_for()
    notebook.screenshot("sweep-explorer-light", of=notebook.cell(BRUSH))

    shown.get_by_role("group", name="guidance_scale").press("ArrowUp")
    box = shown.get_by_role("group", name="steps").locator(".oms-track").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2
    notebook.page.mouse.move(middle, box["y"] + 2)
    notebook.page.mouse.down()
    notebook.page.mouse.move(middle, box["y"] + box["height"] * 0.6, steps=4)
    notebook.page.mouse.up()

    shown.get_by_text("2 of 6 runs").wait_for()
    shown.get_by_text("as a table").click()
    notebook.use_theme("dark")
    notebook.screenshot("sweep-explorer-dark", of=notebook.cell(BRUSH))
    notebook.run_until(SELECTION, re.escape("[(4, 5.0, 'succeeded'), (6, 5.0, 'failed')]"))
    assert shown.get_by_role("group", name="steps, 4 to 6").count() == 1

    notebook.run(SET)
    shown.get_by_text("2 of 6 runs").wait_for()
    assert "[(6, 1.0, 'succeeded'), (6, 5.0, 'failed')]" in notebook.run(SELECTION).inner_text()
    shown.get_by_role("button", name="Clear brushes").click()
    shown.get_by_text("6 of 6 runs").wait_for()
    assert notebook.page.evaluate("window.hacked") is None
    assert notebook.problems == []
    assert notebook.asked_elsewhere == []
