"""How commands print: JSON on stdout when asked for, errors with their hint on stderr."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from omnirt_lab.errors import LabError


def print_json(value: Any) -> None:
    """Print records and plain values as indented JSON."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_error(error: LabError, *, as_json: bool) -> None:
    """Print what went wrong and what to do next; in JSON with the error's stable code."""
    if as_json:
        print_json({"error": {"code": error.code, "message": str(error), "hint": error.hint}})
        return
    print(f"error: {error}\n hint: {error.hint}", file=sys.stderr)
