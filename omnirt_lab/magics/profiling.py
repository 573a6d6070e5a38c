"""`%%omnirt profile`: the code of a cell under torch's profiler; `%omnirt profile`: one prompt."""

from __future__ import annotations

import argparse
import ast
from typing import TYPE_CHECKING, Any, Final

from IPython.display import display

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import WordsParser, add_run_options, options_of, read_line
from omnirt_lab.views.operators import SORTS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from omnirt_lab.lab.profile import Profile

COMMAND: Final = "profile"


def cell_parser() -> WordsParser:
    """The options of `%%omnirt profile`."""
    parser = WordsParser(
        prog="%%omnirt profile",
        usage="%(prog)s [options]",
        description="Run the code of the cell under torch's profiler, and show the operators of each stage of its "
        "runs: of generate(), of %omnirt, of observed pipelines. Profiling slows them, and their reports say so.",
    )
    _add_profile_options(parser)
    return parser


def line_parser() -> WordsParser:
    """The options of `%omnirt profile`."""
    parser = WordsParser(
        prog="%omnirt profile",
        usage="%(prog)s PROMPT [options]",
        description="Draw the prompt under torch's profiler. Below %%omnirt profile, the cell is the code to profile.",
    )
    _add_profile_options(parser)
    add_run_options(parser)
    return parser


def profile(line: str) -> Any:
    """Show the operators of each stage: of a prompt's run, or of the code of a cell, as %%omnirt profile."""
    if _asks_for_help(line):
        print(line_parser().format_help())  # noqa: T201  # a magic's own output
        return None
    prompt, arguments = read_line(line_parser(), line)
    with _profiled(arguments) as profiled:
        result = lab.generate(prompt, **options_of(arguments))
    display(result)
    return _kept(profiled, arguments)


def profile_cell(shell: InteractiveShell, line: str, cell: str) -> Any:
    """Run the cell's code in the user's namespace; its last value is shown, as without the profiler."""
    if _asks_for_help(line):
        print(cell_parser().format_help())  # noqa: T201  # a magic's own output
        return None
    prompt, arguments = read_line(cell_parser(), line)
    if prompt:
        raise InvalidRequestError(
            f"%%omnirt profile takes no prompt: {prompt!r}",
            hint=f"Write code in the cell, or use the line %omnirt profile {prompt}.",
        )
    with _profiled(arguments) as profiled:
        value = _run(shell, cell)
    if value is not None:
        display(value)
    return _kept(profiled, arguments)


def _add_profile_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("profile").add_argument
    add("--sort", metavar="BY", default=next(iter(SORTS)), help=f"{', '.join(SORTS)} (default: %(default)s)")
    add("--top", type=int, metavar="N", default=10, help="operators a stage (default: %(default)s)")
    add("--trace", metavar="FILE", help="write stages and operators as one Chrome trace, for Perfetto")


def _profiled(arguments: argparse.Namespace) -> Profile:
    return lab.profile(sort=arguments.sort, top=arguments.top)


def _kept(profiled: Profile, arguments: argparse.Namespace) -> Profile:
    if arguments.trace is not None:
        profiled.to_chrome_trace(arguments.trace)
    return profiled


def _asks_for_help(line: str) -> bool:
    return line.strip() in ("-h", "--help")


def _run(shell: InteractiveShell, cell: str) -> Any:
    """Run the code as IPython runs a cell, magics included, and return the value of a last line that has one."""
    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)  # so that tracebacks show its lines
    tree = shell.transform_ast(shell.compile.ast_parse(source, filename=name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(shell.compile(tree, name, "exec"), shell.user_global_ns, shell.user_ns)  # noqa: S102  # the user's own cell
    if last is None:
        return None
    return eval(shell.compile(ast.Expression(last.value), name, "eval"), shell.user_global_ns, shell.user_ns)  # noqa: S307  # likewise
