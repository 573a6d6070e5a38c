"""The explorer of a comparison, in a real JupyterLab."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from omnirt_lab.journal import Journal
from omnirt_lab.records import Artifact
from tests.journal.writing import run, wish
from tests.notebook.jupyterlab import JupyterLab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

WICKED = "<img src=x onerror=window.hacked=1>"


def pictured(journal: Journal, colour: str) -> Artifact:
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 50, 50), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return journal.artifacts.put_bytes(buffer.getvalue(), "image/png", width_px=64, height_px=64)


def transforms(images: Locator) -> list[str]:
    found: list[str] = images.evaluate_all("images => images.map(image => image.style.transform)")
    return found


@pytest.mark.browser
def test_in_jupyterlab_one_zoom_is_laid_over_all_pictures_and_f_flips_through_them(
    jupyterlab: JupyterLab, browser: Browser
):
    journal = jupyterlab.serving.journal
    with journal.worker() as worker:
        runs = [
            run(journal, worker, wish(prompt), artifacts=(pictured(journal, first), pictured(journal, "black")))
            for prompt, first in (("a red circle", "crimson"), (WICKED, "teal"), ("a third", "gold"))
        ]
    ids = ", ".join(repr(report.run_id) for report in runs)
    path = jupyterlab.write(
        f"import omnirt_lab as lab\nexplorer = lab.compare({ids}).explore()\nexplorer", "explorer.index"
    )
    with jupyterlab.open(browser, path) as notebook:
        shown = notebook.run(0)
        stage = shown.get_by_role("application", name="Pictures")
        images = stage.locator("img")
        images.nth(2).evaluate("image => image.decode()")
        assert "”" in shown.get_by_text(WICKED).first.inner_text()
        notebook.screenshot("compare-explorer-light", of=notebook.cell(0))

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
        notebook.screenshot("compare-explorer-dark", of=notebook.cell(0))

        shown.get_by_label("Picture", exact=True).select_option("1")
        shown.get_by_text("A and B: no difference").wait_for()
        assert notebook.run(1).locator("pre").last.inner_text().strip() == "1"
        assert notebook.page.evaluate("window.hacked") is None
    assert notebook.problems == []
    assert notebook.asked_elsewhere == []
