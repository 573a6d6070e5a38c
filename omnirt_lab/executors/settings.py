"""What a person may set for the whole process."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.records import Record

_EMBED_VARIABLE: Final = "OMNIRT_EMBED_METADATA"
_PYTHON_VARIABLE: Final = "OMNIRT_SUBPROCESS_PYTHON"


class Settings(Record, frozen=True, kw_only=True):
    """Settings of this process; `omnirt_lab.configure` changes them."""

    embed_metadata: bool = True
    """Write the request, seed, model and versions into each PNG; also `$OMNIRT_EMBED_METADATA` (0 or 1)."""

    live: bool | None = None
    """Show runs live in a notebook. None: where its front end has a person before it, and can show widgets."""

    subprocess_python: str | None = None
    """The python that `subprocess` runs use; None is this process's own. Also `$OMNIRT_SUBPROCESS_PYTHON`."""

    cancel_grace_s: float = 5.0
    """How long a child process may go on after a cancel before it is killed."""


class SettingsHolder:
    """The one place where the current settings stand."""

    def __init__(self) -> None:
        self.current = Settings(
            embed_metadata=os.environ.get(_EMBED_VARIABLE, "1") != "0",
            subprocess_python=os.environ.get(_PYTHON_VARIABLE) or None,
        )

    def change(self, **changes: Any) -> Settings:
        """Replace some settings and return all of them."""
        self.current = msgspec.structs.replace(self.current, **changes)
        return self.current


def get_python(python: str | Path) -> str:
    """The absolute path of an executable, given by its path or its name.

    Raises
    ------
    NotAvailableError
        If there is none.
    """
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise NotAvailableError(
            f"{str(python)!r} is no program",
            hint="Give the path of a python, such as .venv/bin/python.",
        )
    return str(Path(found).absolute())


def get_grace_s(seconds: float) -> float:
    """A number of seconds to wait.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidRequestError(f"cancel_grace_s is {seconds}", hint="Give seconds, such as 5.")
    return float(seconds)


SETTINGS: Final = SettingsHolder()
