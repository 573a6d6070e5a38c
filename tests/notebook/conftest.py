from __future__ import annotations

from tests.browsing import browser
from tests.notebook.jupyterlab import jupyterlab

__all__ = ["browser", "jupyterlab"]
