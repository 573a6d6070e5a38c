"""The magic itself."""

from __future__ import annotations

from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from omnirt_lab.errors import InvalidRequestError, LabError, RunNotFoundError, UnknownModelError
from omnirt_lab.magics.commands import COMMANDS, draw, run_parser
from omnirt_lab.magics.profiling import COMMAND as PROFILE
from omnirt_lab.magics.profiling import profile_cell

_ASKED_WRONGLY = (InvalidRequestError, UnknownModelError, RunNotFoundError)


@magics_class
class OmnirtMagics(Magics):  # type: ignore[misc]  # IPython's base class is untyped
    """Draw pictures and read their reports from a cell."""

    @no_var_expand  # type: ignore[untyped-decorator]  # likewise; a prompt's braces and dollars are text, never code
    @line_cell_magic  # type: ignore[untyped-decorator]  # likewise
    def omnirt(self, line: str, cell: str | None = None) -> Any:
        """Draw a prompt: `%omnirt a red circle --steps 20`, or with the prompt as the cell below `%%omnirt`.

        `%omnirt --help` lists the options and commands. Below `%%omnirt profile` the cell is code to be profiled.
        """
        command, _, rest = line.strip().partition(" ")
        try:
            if command in ("-h", "--help"):
                print(run_parser().format_help())  # noqa: T201  # a magic's own output
                return None
            if cell is None and command in COMMANDS:
                return COMMANDS[command](rest)
            if cell is not None and command == PROFILE:
                return profile_cell(self.shell, rest, cell)
            return draw(line, cell)
        except _ASKED_WRONGLY as error:
            raise UsageError(_in_short(error)) from error


def _in_short(error: LabError) -> str:
    return f"{error}\n{error.hint}"
