"""A field for a picture that a run starts from."""

from __future__ import annotations

from typing import Any

import ipywidgets

from omnirt_lab.views import panel as view


class PictureField:
    """A button that takes a file, and what it holds now: nothing, a file's bytes, or a picture that a run has had."""

    def __init__(self, label: str, tooltip: str) -> None:
        self.value: bytes | str | None = None
        """A file's bytes, or the sha256 of a stored picture."""
        self._upload = ipywidgets.FileUpload(
            accept="image/*", description=label, tooltip=tooltip, layout={"width": "auto", "flex": "0 0 auto"}
        )
        self._upload.observe(lambda change: self._take(change["new"]), "value")
        self._held = ipywidgets.HTML(view.quiet("none yet"))
        self.widget = ipywidgets.HBox(
            (self._upload, self._held), layout={"margin": "2px 0 2px 86px", "grid_gap": "8px", "align_items": "center"}
        )

    def show(self, sha256: str | None) -> None:
        """Hold a stored picture, or none."""
        self.value = sha256
        self._held.value = view.quiet("none yet" if sha256 is None else f"a run's picture, {sha256[:8]}")

    def _take(self, files: tuple[dict[str, Any], ...]) -> None:
        if files:
            self.value = bytes(files[0]["content"])
            self._held.value = view.quiet(view.file_words(files[0]["name"], len(self.value)))
