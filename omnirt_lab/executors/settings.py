"""What a person may set for the whole process."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from omnirt_lab.records import Record

_EMBED_VARIABLE: Final = "OMNIRT_EMBED_METADATA"


class Settings(Record, frozen=True, kw_only=True):
    """Settings of this process; `omnirt_lab.configure` changes them."""

    embed_metadata: bool = True
    """Write the request, seed, model and versions into each PNG; also `$OMNIRT_EMBED_METADATA` (0 or 1)."""


class SettingsHolder:
    """The one place where the current settings stand."""

    def __init__(self) -> None:
        self.current = Settings(embed_metadata=os.environ.get(_EMBED_VARIABLE, "1") != "0")

    def change(self, **changes: bool) -> Settings:
        """Replace some settings and return all of them."""
        self.current = msgspec.structs.replace(self.current, **changes)
        return self.current


SETTINGS: Final = SettingsHolder()
