"""The history explorer in a real JupyterLab, and what its kernel side takes and refuses."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.journal import Journal, RunQuery
from omnirt_lab.records import Artifact
from omnirt_lab.widgets.history_explorer import SENT, Asked, Rate, columns_json
from tests.journal.writing import run, wish
from tests.notebook.jupyterlab import WAIT_MS, JupyterLab, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

WICKED = "<img src=x onerror=window.hacked=1> a wicked prompt"
MODULE = Path(__file__).parents[2] / "omnirt_lab/widgets/history_explorer.js"


def png(journal: Journal, colour: str) -> Artifact:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return journal.artifacts.put_bytes(buffer.getvalue(), "image/png", width_px=64, height_px=64)


def rows(table: Locator) -> list[str]:
    """The prompts in view, from the top."""
    found: list[str] = table.locator(".row").evaluate_all(
        """rows => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
            .map(row => row.querySelector(".text").textContent)"""
    )
    return found


def row(table: Locator, prompt: str) -> Locator:
    return table.locator(".row", has_text=prompt)


@pytest.mark.browser
def test_runs_are_found_sorted_out_and_selected_and_all_of_it_lasts(jupyterlab: JupyterLab, browser: Browser):
    journal = jupyterlab.serving.journal
    with journal.worker() as worker:
        run(journal, worker, wish("a red circle, which has a picture"), artifacts=(png(journal, "crimson"),))
        run(journal, worker, wish("a blue square", model="another"), artifacts=(png(journal, "navy"),))
        run(journal, worker, wish(WICKED))
        for number in range(40):
            run(journal, worker, wish(f"number {number:02d}, one of many"))
    cells = (
        "import omnirt_lab as lab\nexplorer = lab.history().explore()\nexplorer",
        "explorer.selection.prompt.tolist()",
        "explorer.selected_ids = lab.history(prompt='SQUARE').to_pandas().run_id.tolist()",
    )
    with jupyterlab.open(browser, jupyterlab.write(*cells)) as notebook:
        table = notebook.run(0).locator(".omnirt-history")
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
        assert notebook.page.evaluate("window.hacked") is None

        row(table, "blue square").locator(".text").click()
        row(table, "red circle").locator(".text").click(modifiers=["Control"])
        table.get_by_text("3 of 43 runs · 2 selected").wait_for()
        notebook.run_until(1, re.escape("['a blue square', 'a red circle, which has a picture']"))

        notebook.run(2)
        table.get_by_text("3 of 43 runs · 1 selected").wait_for()
        row(table, "blue square").and_(table.locator("[aria-selected=true]")).wait_for()
        row(table, "red circle").locator(".mark input").check()

        sort_out(notebook, table)
        take_pictures(notebook, table)
        throw_away_and_take_back(table)
        saved = notebook.save()
        assert "number 39, one of many" in saved.cells[0].outputs[0]["data"]["text/plain"]
        assert notebook.problems == []
        assert notebook.asked_elsewhere == []

        notebook.page.reload()
        notebook.page.wait_for_function("window.jupyterapp?.restored.then(() => true)", timeout=WAIT_MS)
        notebook.command("docmanager:open", path=notebook.path.name)
        again = notebook.output(0).locator(".omnirt-history")
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
    assert notebook.cell(2).count() == 1, "no key of the table reaches the notebook, where d d deletes a cell"
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


def test_the_selection_is_a_frame_of_the_runs_with_these_ids(state_dir: Path) -> None:
    with Lab() as lab:
        reports = [run(lab.journal, lab.engine.worker) for _ in range(3)]
        explorer = lab.history().explore()

        explorer.selected_ids = [reports[0].run_id, reports[2].run_id]

        assert explorer.selection.run_id.tolist() == [reports[2].run_id, reports[0].run_id]
        assert explorer.selection.dtypes.equals(lab.history().to_pandas().dtypes)
        explorer.close()


def test_a_message_is_one_of_those_that_there_are_or_refused() -> None:
    assert msgspec.convert({"kind": "rate", "run_ids": ["a"], "rating": 4}, Asked) == Rate(run_ids=("a",), rating=4)
    for wrong in (
        {"kind": "drop"},
        {"kind": "rate", "run_ids": [], "rating": 4},
        {"kind": "rate", "run_ids": ["a"], "rating": "4"},
        {"kind": "thumbnails", "run_ids": ["a"], "side_px": 100_000},
        {"kind": "load", "more": 1},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Asked)


def test_the_columns_are_a_list_each_with_figures_to_sort_by_and_texts_to_show(state_dir: Path) -> None:
    with Lab() as lab:
        report = run(lab.journal, lab.engine.worker, wish(WICKED))
        lab.history().tag("a", '"quoted"')
        rows_stored = lab.journal.query_columns(RunQuery(), SENT)

        columns = msgspec.json.decode(columns_json(rows_stored))

        assert {len(values) for values in columns.values()} == {1}
        assert columns["prompt"] == [WICKED]
        assert columns["tags"] == [["a", '"quoted"']]
        assert columns["duration_ms"] == [report.duration_ms]
        assert columns["duration"][0].endswith("ms")
        assert (columns["peak_bytes"], columns["peak"]) == ([600_000_000], ["572 MiB"])
        assert (columns["trashed"], columns["has_picture"]) == ([False], [False])


def test_the_modules_pure_parts_hold_and_it_is_small(tmp_path: Path) -> None:
    assert MODULE.stat().st_size < 20_000
    assert "innerHTML" not in MODULE.read_text(encoding="utf-8")
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    for source in (MODULE, Path(__file__).with_name("history_explorer.test.js")):
        shutil.copy(source, tmp_path / source.name)
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", "history_explorer.test.js"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
