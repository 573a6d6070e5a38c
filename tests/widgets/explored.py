"""Notebooks with explorers, open in JupyterLab; their numbers are those of their cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from omnirt_lab.journal import Journal
from omnirt_lab.records import RunReport
from tests import sample_events
from tests.journal.writing import run, wish
from tests.notebook.jupyterlab import JupyterLab, Notebook
from tests.sample_events import picture, report_of
from tests.widgets.parts import tab
from tests.widgets.written import OPTIONS, WICKED, pictured, swept

if TYPE_CHECKING:
    from playwright.sync_api import Locator

READ = """
import json, pathlib
from omnirt_lab import RunReport
cached, failed = (
    RunReport.from_dict(json.loads(pathlib.Path(f"{name}.json").read_text())) for name in ("cached", "failed")
)
"""
RUN, SELECTION, SELECT, FAILED, WAIT = range(1, 6)
NOTHING = r"^Selection\(start_ms=None, end_ms=None, stage=None, step=None\)$"

SWEEP = """
from omnirt_lab.lab.api import LAB
from omnirt_lab.lab.plan import plan_of
from omnirt_lab.lab.sweep import Sweep
sweep = Sweep(lambda: LAB.engine, plan_of({prompt!r}, {options}), "brushed").resume()
explorer = sweep.explore()
explorer
"""
COMPARE, INDEX, BRUSH, BRUSHED, SET = range(5)

HISTORY, SELECTED, FOUND = range(3)


def prompted(report: RunReport) -> RunReport:
    inputs = replace(report.request.inputs, prompt=WICKED)
    return replace(report, request=replace(report.request, inputs=inputs))


@pytest.fixture(scope="module")
def notebook(jupyterlab: JupyterLab) -> Iterator[Notebook]:
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
    with jupyterlab.open(path) as opened:
        opened.run(0)
        opened.run(RUN).locator(".omx-plot svg").first.wait_for()
        yield opened


@pytest.fixture
def explorer(notebook: Notebook) -> Locator:
    """The explorer, with nothing selected and its waterfall open."""
    found = notebook.output(RUN).locator(".omx")
    tab(found, "waterfall").click()
    found.get_by_role("button", name="Whole run").click()
    found.get_by_role("button", name="Clear").click()
    notebook.run_until(SELECTION, NOTHING)
    return found


@pytest.fixture(scope="module")
def sides_and_sweep(jupyterlab: JupyterLab) -> Iterator[Notebook]:
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
    with jupyterlab.open(path) as opened:
        yield opened


@pytest.fixture
def history(jupyterlab: JupyterLab) -> Iterator[Notebook]:
    """A notebook with the explorer of 43 runs, in a journal of its own."""
    state_dir = jupyterlab.root / "history"
    with Journal.open(state_dir) as journal, journal.worker() as worker:
        run(journal, worker, wish("a red circle, which has a picture"), artifacts=(pictured(journal, "crimson"),))
        run(journal, worker, wish("a blue square", model="another"), artifacts=(pictured(journal, "navy"),))
        run(journal, worker, wish(WICKED))
        for number in range(40):
            run(journal, worker, wish(f"number {number:02d}, one of many"))
    path = jupyterlab.write(
        f"import os\nos.environ['OMNIRT_STATE_DIR'] = {str(state_dir)!r}\n"
        "import omnirt_lab as lab\nexplorer = lab.history().explore()\nexplorer",
        "explorer.selection.prompt.tolist()",
        "explorer.selected_ids = lab.history(prompt='SQUARE').to_pandas().run_id.tolist()",
    )
    with jupyterlab.open(path) as opened:
        yield opened
