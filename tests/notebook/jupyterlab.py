"""A real JupyterLab in a real browser: a server process of its own, and notebooks opened, run, saved and looked at.

    @pytest.mark.browser
    def test_a_cell_runs(jupyterlab: JupyterLab, browser: Browser):
        with jupyterlab.open(browser, jupyterlab.write("1 + 1")) as notebook:
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import nbformat
import pytest

from tests.server.running import wait_for
from tests.server.serving import Serving, free_port, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PICTURES: Final = Path(__file__).parents[2] / "test-artifacts"
THEMES: Final = "@jupyterlab/apputils-extension:themes"
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

    problems: list[str] = field(default_factory=list)
    """What was thrown in the page and not caught."""

    asked_elsewhere: list[str] = field(default_factory=list)
    """Addresses outside of the server that the page has asked for."""

    def start(self, index: int) -> None:
        """Begin to run a cell, and do not wait for its end."""
        self._run_cell(index, waits=False)
        self.cell(index).get_by_text("[*]:").wait_for(timeout=WAIT_MS)

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

    def run_all(self) -> None:
        """Run every cell, in order, to the end."""
        self.command("notebook:run-all-cells")
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait for "Idle" in the status bar; also for a cell that was started."""
        self.page.locator(".jp-InputPrompt", has_text="[*]:").first.wait_for(state="detached", timeout=WAIT_MS)
        self.page.locator("#jp-main-statusbar").get_by_text("Idle").wait_for(timeout=WAIT_MS)

    def cell(self, index: int) -> Locator:
        """A cell, input and output."""
        return self.page.locator(".jp-NotebookPanel .jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        """What stands under a cell: one element for all of its outputs."""
        return self.cell(index).locator(".jp-Cell-outputArea")

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
        self.page.locator(f'body[data-jp-theme-light="{is_light}"]').wait_for(state="attached", timeout=WAIT_MS)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=WAIT_MS)

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
    """A JupyterLab server of its own, with its own configuration, data and journal."""

    serving: Serving
    """The process, its address and token, and the journal in which its kernels write."""

    root: Path
    """The folder in which its notebooks lie."""

    def write(self, *cells: str, name: str | None = None) -> Path:
        """Put a notebook with these code cells into the folder."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.root / f"{name or secrets.token_hex(4)}.ipynb"
        nbformat.write(notebook, path)
        return path

    @contextmanager
    def open(self, browser: Browser, path: Path, *, kernel: bool = True) -> Iterator[Notebook]:
        """Open a notebook in a browser window of its own; at the end its kernel is shut down.

        Parameters
        ----------
        kernel
            Start one, and wait until it is idle. Without, a copy is opened as if nothing could run it: the page shows
            what the file holds.
        """
        context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
        notebook = Notebook(context.new_page(), path if kernel else _without_kernelspec(path))
        try:
            self._watch(notebook)
            notebook.page.goto(f"{self.serving.url}/lab?reset&token={self.serving.token}")
            notebook.page.locator("#jp-main-dock-panel").wait_for(timeout=WAIT_MS)
            notebook.page.wait_for_function("window.jupyterapp.restored.then(() => true)", timeout=WAIT_MS)
            notebook.command("docmanager:open", path=notebook.path.name)
            if kernel:
                notebook.wait_until_idle()
            else:
                notebook.page.locator(".jp-Dialog").get_by_role("button", name="No Kernel").click(timeout=WAIT_MS)
            notebook.cell(0).wait_for(timeout=WAIT_MS)
            yield notebook
        finally:
            context.close()
            self._shut_kernel_down(notebook)
            self.serving.client.put(f"/lab/api/settings/{THEMES}", json={"raw": "{}"})  # the next window is light again

    def _watch(self, notebook: Notebook) -> None:
        def asked(url: str) -> None:
            if not url.startswith((self.serving.url, "blob:", "data:")):
                notebook.asked_elsewhere.append(url)

        notebook.page.on("pageerror", lambda error: notebook.problems.append(str(error)))
        notebook.page.on("request", lambda request: asked(request.url))

    def _shut_kernel_down(self, notebook: Notebook) -> None:
        sessions: list[dict[str, Any]] = self.serving.client.get("/api/sessions").json()
        for session in sessions:
            if session["path"] == notebook.path.name:
                self.serving.client.delete(f"/api/sessions/{session['id']}")


def _without_kernelspec(path: Path) -> Path:
    notebook = nbformat.read(path, as_version=4)
    for name in ("kernelspec", "language_info"):
        notebook.metadata.pop(name, None)
    copy = path.with_stem(f"{path.stem}-seen")
    nbformat.write(notebook, copy)
    return copy


@contextmanager
def running_jupyterlab(home: Path) -> Iterator[JupyterLab]:
    """Start a server, wait until it answers, and stop it by its own process id."""
    root = home / "notebooks"
    root.mkdir()
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
        f"--ServerApp.root_dir={root}",
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
        yield JupyterLab(server, root)


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    """One server for the tests of a module."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    with running_jupyterlab(tmp_path_factory.mktemp("jupyterlab")) as running:
        yield running
