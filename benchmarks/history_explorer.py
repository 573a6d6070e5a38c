"""The history explorer over 10,000 stored runs: what the kernel prepares, and how long a person in a browser waits.

`open` is from running the cell of a notebook in JupyterLab until the newest rows stand in the page; the first one loads
the widget's libraries into the kernel, too. Each of the others is from the event in the page until the frame in which
its effect is drawn. Clocks: the kernel's part by this process, the rest by the page. Without Chromium only the kernel's
part is measured.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from PIL import Image
from recorded_run import ENVIRONMENT, ending, request, stage
from report import emit_report

from omnirt_lab.journal import Journal, RunQuery
from omnirt_lab.records import JobStartedData
from omnirt_lab.widgets.history_explorer import SENT, columns_json

sys.path.append(str(Path(__file__).parents[1]))  # for the tests' JupyterLab

from tests.browsing import CHROMIUM, FLAGS
from tests.notebook.jupyterlab import running_jupyterlab

if TYPE_CHECKING:
    from tests.notebook.jupyterlab import Notebook

RUNS: Final = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
REPEATS: Final = 7
PICTURE_PX: Final = 512
MAX_OPEN_MS: Final = 2_000.0
MAX_FILTER_MS: Final = 100.0

CELLS: Final = ("import omnirt_lab as lab", *["lab.history().explore()"] * 3)

OPEN: Final = """async (index) => {
    const start = performance.now();
    window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
    window.jupyterapp.commands.execute("notebook:run-cell");
    const cell = document.querySelectorAll(".jp-NotebookPanel .jp-Notebook .jp-Cell")[index];
    while (!cell.querySelector(".omnirt-history .row")) await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""

ACT: Final = """async ([index, selector, value, kind]) => {
    const cell = document.querySelectorAll(".jp-NotebookPanel .jp-Notebook .jp-Cell")[index];
    const target = cell.querySelector(selector);
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    if (kind === "scroll") target.scrollTop = value;
    else if (kind === "click") target.click();
    else {
        target.value = value;
        target.dispatchEvent(new Event(kind, { bubbles: true }));
    }
    await new Promise(requestAnimationFrame);
    cell.querySelector(".body").getBoundingClientRect();
    await new Promise((resolve) => setTimeout(resolve));
    return performance.now() - start;
}"""

SEARCH, SELECT, BODY, SORT = "[type=search]", "select[aria-label=model]", ".body", ".head [value=duration_ms]"
MODEL: Final = "stabilityai/stable-diffusion-xl-base-1.0"
ACTIONS: Final = {
    "search for a word that all have": [(SEARCH, text, "input") for text in ("b", "bl", "blue", "")],
    "search for what few have": [(SEARCH, text, "input") for text in ("number 77", "number 777", "7777", "")],
    "filter by model": [(SELECT, value, "change") for value in (MODEL, "")],
    "sort by time": [(SORT, "", "click")] * 2,
    "scroll far": [(BODY, px, "scroll") for px in (100_000, 250_000, 0)],
}
FILTERS: Final = tuple(name for name in ACTIONS if name.startswith(("search", "filter", "sort")))


def store(journal: Journal) -> None:
    """The runs, each with one of 32 pictures of 512 pixels; without steps, which the history does not show."""
    pictures = []
    for number in range(32):
        buffer = io.BytesIO()
        Image.effect_noise((PICTURE_PX, PICTURE_PX), 40 + number).save(buffer, "PNG")
        pictures.append(journal.artifacts.put_bytes(buffer.getvalue(), "image/png"))
    with journal.worker() as worker:
        for index in range(RUNS):
            writer = journal.claim(journal.enqueue(request(index)).job_id, worker)
            assert writer is not None
            writer.emit(
                JobStartedData(worker_id=worker.worker_id, execution_mode="legacy_call", environment=ENVIRONMENT)
            )
            for name in ("load", "text_encoder", "denoise", "vae_decode"):
                stage(writer, name)
            writer.finish(msgspec.structs.replace(ending(index), artifacts=(pictures[index % len(pictures)],)))


def in_the_kernel(journal: Journal) -> tuple[float, int]:
    """Median milliseconds to read all runs and make them one message, and its bytes."""
    took_ms = []
    for _ in range(REPEATS):
        start_ns = time.perf_counter_ns()
        message = columns_json(journal.query_columns(RunQuery(trash="with"), SENT))
        took_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
    return statistics.median(took_ms), len(message)


def in_the_page(notebook: Notebook) -> dict[str, float]:
    """Milliseconds of each thing a person does; the openings one by one, the rest as the worst of all tries."""
    notebook.run(0)
    figures: dict[str, float] = {}
    for index, name in ((1, "open, the first of a kernel"), (2, "open"), (3, "open again")):
        figures[name] = notebook.page.evaluate(OPEN, index)
        notebook.wait_until_idle()
    for name, acts in ACTIONS.items():
        took_ms = [notebook.page.evaluate(ACT, [3, *act]) for _ in range(REPEATS) for act in acts]
        figures[f"{name}, median"] = statistics.median(took_ms)
        figures[f"{name}, worst"] = max(took_ms)
    return figures


def browse(home: Path) -> dict[str, float]:
    """What a person waits for, in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        with running_jupyterlab(home, chromium) as jupyterlab:
            journal = jupyterlab.serving.journal
            store(journal)
            kernel_ms, size_bytes = in_the_kernel(journal)
            figures = {
                "kernel: read and encode all runs": kernel_ms,
                "kernel: size of the message (kB)": size_bytes / 1000,
            }
            with jupyterlab.open(jupyterlab.write(*CELLS)) as notebook:
                figures |= in_the_page(notebook)
        chromium.close()
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        if not CHROMIUM.exists():
            with Journal.open(Path(home)) as journal:
                store(journal)
                kernel_ms, _ = in_the_kernel(journal)
            emit_report("history_explorer", [{"what": "kernel: read and encode all runs", "ms": kernel_ms}], {})
            return
        figures = browse(Path(home))
    slowest_ms = max(figures[f"{name}, median"] for name in FILTERS)
    opened_ms = max(ms for name, ms in figures.items() if name.startswith("open"))
    emit_report(
        "history_explorer",
        [{"what": name, "ms": ms} for name, ms in figures.items()],
        {
            f"{RUNS:,} runs open in < {MAX_OPEN_MS:,.0f} ms": opened_ms < MAX_OPEN_MS,
            f"search, filters and sorting take < {MAX_FILTER_MS:.0f} ms": slowest_ms < MAX_FILTER_MS,
        },
    )


if __name__ == "__main__":
    main()
