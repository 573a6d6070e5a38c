from __future__ import annotations

from tests.browsing import browser
from tests.notebook.jupyterlab import jupyterlab
from tests.widgets.explored import explorer, history, notebook, sides_and_sweep

__all__ = ["browser", "explorer", "history", "jupyterlab", "notebook", "sides_and_sweep"]
