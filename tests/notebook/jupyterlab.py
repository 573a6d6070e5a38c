"""A real JupyterLab in a real browser: a server process of its own, and notebooks opened, run, saved and looked at.

    @pytest.mark.browser
    def test_a_cell_runs(jupyterlab: JupyterLab):
        with jupyterlab.open(jupyterlab.write("1 + 1")) as notebook:
            assert notebook.run(0).inner_text() == "2"

A conftest that imports the fixtures `browser` (of `tests.browsing`) and `jupyterlab` has both for its tests.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import nbformat
import pytest

from tests.server.running import wait_for
from tests.server.serving import Serving, free_port, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PICTURES: Final = Path(__file__).parents[2] / "test-artifacts"
NOTEBOOKS: Final = "notebooks"
WAIT_MS: Final = 60_000
VIEWPORT: Final = {"width": 1280, "height": 1000}
SETTINGS: Final = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
"""So that JupyterLab asks neither its person nor another server."""


@dataclass
class Notebook:
    """A notebook that is open in JupyterLab; cells are counted from 0."""

    page: Page
    path: Path
    """The file that `save` writes."""

    def start(self, index: int) -> None:
        """Begin to run a cell, and do not wait for its end."""
        self._run_cell(index, waits=False)
        self.cell(index).get_by_text("[*]:").wait_for()

    def run(self, index: int) -> Locator:
        """Run a cell to its end, and return its output."""
        self._run_cell(index, waits=True)
        self.wait_until_idle()
        return self.output(index)

    def run_until(self, index: int, pattern: str) -> str:
        """Run a cell until its output has this pattern, and return its text.

        The kernel hears what is done in the page in a thread beside the one that runs cells, so a quick cell may be
        first.
        """

        def found() -> str | None:
            said = self.run(index).inner_text().strip()
            return said if re.search(pattern, said) else None

        return wait_for(found, f"cell {index} says {pattern}")

    def wait_until_idle(self) -> None:
        """Wait for "Idle" in the status bar; also for a cell that was started."""
        self.page.locator(".jp-InputPrompt", has_text="[*]:").first.wait_for(state="detached")
        self.page.locator("#jp-main-statusbar").get_by_text("Idle").wait_for()

    def cell(self, index: int) -> Locator:
        """A cell, input and output."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """What stands under a cell: one element for all of its outputs."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def open(self) -> None:
        """Open it, in front of those that are open."""
        self.command("docmanager:open", path=self.path.name)
        self.page.wait_for_function(
            "path => window.jupyterapp.shell.currentWidget?.context?.path === path", arg=self.path.name
        )

    def wait_for_kernel(self) -> None:
        """Wait until there is one, and it is idle."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.ready")
        self.wait_until_idle()

    def close(self) -> None:
        """Close it as it is, without a question; its kernel goes on."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.dispose()")

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook, and read what the file holds now."""
        self.command("docmanager:save")
        saved = nbformat.read(self.path, as_version=4)
        nbformat.validate(saved)
        return saved

    def use_theme(self, theme: Literal["light", "dark"]) -> None:
        """Change JupyterLab's colours."""
        self.command("apputils:change-theme", theme=f"JupyterLab {theme.capitalize()}")
        is_light = json.dumps(theme == "light")
        self.page.locator(f'body[data-jp-theme-light="{is_light}"]').wait_for(state="attached")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def screenshot(self, name: str, *, of: Locator | None = None) -> None:
        """Keep a picture of the page, or of a part of it, as `test-artifacts/<name>.png`."""
        PICTURES.mkdir(exist_ok=True)
        seen = (of or self.page).screenshot()  # by `path` playwright would leave a thread behind
        (PICTURES / f"{name}.png").write_bytes(seen)

    def command(self, name: str, **arguments: object) -> None:
        """Have JupyterLab execute one of its commands, and wait for it."""
        self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments]
        )

    def _run_cell(self, index: int, *, waits: bool) -> None:
        self.page.evaluate(
            """([index, waits]) => {
                window.jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                const end = window.jupyterapp.commands.execute('notebook:run-cell').then(() => null);
                return waits ? end : null;
            }""",
            [index, waits],
        )


@dataclass(frozen=True)
class JupyterLab:
    """A JupyterLab server of its own, with its own configuration, data and journal, and one page that shows it."""

    serving: Serving
    """The process, its address and token, and the journal in which its kernels write."""

    root: Path
    """The folder in which its notebooks lie."""

    page: Page

    def write(self, *cells: str, name: str | None = None) -> Path:
        """Put a notebook with these code cells into the folder."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.root / f"{name or secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, path)
        return path

    @contextmanager
    def open(self, path: Path, *, kernel: bool = True) -> Iterator[Notebook]:
        """Open a notebook in front of those that are open; at the end it is closed and its kernel is shut down.

        Parameters
        ----------
        kernel
            Start one, and wait until it is idle. Without, a copy is opened as if nothing could run it: the page shows
            what the file holds.
        """
        notebook = Notebook(self.page, path if kernel else _without_kernelspec(path))
        behind = self.page.evaluate("window.jupyterapp.shell.currentWidget?.id")
        try:
            notebook.open()
            if kernel:
                notebook.wait_for_kernel()
            else:
                self.page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click()
            notebook.cell(0).wait_for()
            yield notebook
        finally:
            notebook.close()
            self.page.evaluate("id => window.jupyterapp.shell.activateById(id)", behind)
            for session in self.sessions_of(notebook):
                self.serving.client.delete(f"/api/sessions/{session}")

    def sessions_of(self, notebook: Notebook) -> list[str]:
        """Ids of what the notebook has of a kernel: one, or none."""
        sessions: list[dict[str, Any]] = self.serving.client.get("/api/sessions").json()
        return [session["id"] for session in sessions if session["path"] == notebook.path.name]


def _without_kernelspec(path: Path) -> Path:
    notebook = nbformat.read(path, as_version=4)
    for name in ("kernelspec", "language_info"):
        notebook.metadata.pop(name, None)
    copy = path.with_stem(f"{path.stem}-seen")
    nbformat.write(notebook, copy)
    return copy


@contextmanager
def lab_server(home: Path) -> Iterator[Serving]:
    """Start a server, wait until it answers, and stop it by its own process id."""
    (home / NOTEBOOKS).mkdir()
    for name, settings in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    port, token = free_port(), secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={home / NOTEBOOKS}",
        f"--IdentityProvider.token={token}",
        f"--LabApp.user_settings_dir={home / 'settings'}",
        f"--LabApp.workspaces_dir={home / 'workspaces'}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    address, state_dir = f"http://127.0.0.1:{port}", home / "state"
    # a thread of anyio's pool may outlive the server that has ended, and with it its process
    with serving(command, address, token, state_dir, home, ready="/api", patience_s=2) as server:
        yield server


@contextmanager
def lab_page(browser: Browser, server: Serving) -> Iterator[Page]:
    """JupyterLab in a window; what is thrown there and not caught, or asked of another server, fails in the end."""
    problems: list[str] = []
    asked: list[str] = []
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/lab?reset&token={server.token}")
    page.locator("#jp-main-dock-panel").wait_for()
    page.wait_for_function("window.jupyterapp.restored.then(() => true)")
    yield page
    context.close()
    assert problems == []
    assert [url for url in asked if not url.startswith((server.url, "blob:", "data:"))] == []


@contextmanager
def running_jupyterlab(home: Path, browser: Browser) -> Iterator[JupyterLab]:
    """The server, and the page in this browser."""
    with lab_server(home) as server, lab_page(browser, server) as page:
        yield JupyterLab(server, home / NOTEBOOKS, page)


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[JupyterLab]:
    """One server and one page for the tests of a module: to load the page takes longer than most of what is done."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    with running_jupyterlab(tmp_path_factory.mktemp("jupyterlab"), browser) as running:
        yield running
