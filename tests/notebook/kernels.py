"""Real kernels that execute notebooks without a front end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.util import run_sync


@contextmanager
def running_kernel() -> Iterator[AsyncKernelManager]:
    """A kernel for one notebook after the other: to load torch and diffusers takes longer than what they are for."""
    manager = AsyncKernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)()
    try:
        yield manager
    finally:
        run_sync(manager.shutdown_kernel)(now=True)


def execute(notebook: nbformat.NotebookNode, kernel: AsyncKernelManager, *, allow_errors: bool = False) -> None:
    """Run the cells from the first to the last; their outputs are put into the notebook."""
    client = NotebookClient(notebook, km=kernel, timeout=120, allow_errors=allow_errors)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    nbformat.validate(notebook)
