"""Completion after `%omnirt`: commands first, then options, and the values of those that have a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import VALUES, WordsParser
from omnirt_lab.magics.commands import COMMANDS, history_parser, run_parser
from omnirt_lab.magics.profiling import COMMAND as PROFILE
from omnirt_lab.magics.profiling import cell_parser, line_parser
from omnirt_lab.views.operators import SORTS


class CompletionEvent(Protocol):
    """What IPython's `complete_command` hook is given."""

    line: str

    symbol: str


def complete(_shell: object, event: CompletionEvent) -> list[str]:
    """The words that may stand where the cursor is."""
    words = event.line.split()
    before = words[-2] if event.symbol and len(words) > 1 else words[-1]
    if before == "--model":
        return [source.name for source in lab.models()]
    if before in VALUES:
        return list(VALUES[before])
    if before == "--sort":
        return list(SORTS)
    if before in ("--image", "--mask"):
        return _files(event.symbol)
    if before.startswith("%") and not event.symbol.startswith("-"):
        return list(COMMANDS)
    return [option for action in _parser_of(words)._actions for option in action.option_strings]  # noqa: SLF001  # argparse has no public list


def _parser_of(words: Sequence[str]) -> WordsParser:
    """What will parse the line."""
    if words[1:2] == [PROFILE]:
        return cell_parser() if words[0].startswith("%%") else line_parser()
    return history_parser() if words[1:2] == ["history"] else run_parser()


def _files(begun: str) -> list[str]:
    """Files and folders whose path goes on from what was typed."""
    folder, slash, name = begun.rpartition("/")
    place = Path(folder + slash or ".").expanduser()
    found = [path for path in place.iterdir() if path.name.startswith(name)] if place.is_dir() else []
    return sorted(f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}" for path in found)
