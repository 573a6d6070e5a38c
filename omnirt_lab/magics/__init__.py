"""`%omnirt` and `%%omnirt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnirt_lab.magics.completion import complete
from omnirt_lab.magics.omnirt import OmnirtMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def register(shell: InteractiveShell) -> None:
    """Add the magics and their completion to `shell`."""
    shell.register_magics(OmnirtMagics)
    shell.set_hook("complete_command", complete, re_key="%%?omnirt")
