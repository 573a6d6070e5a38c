"""What `%omnirt` does: a run, or one of its commands; each parses its own line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import (
    WordsParser,
    add_history_options,
    add_run_options,
    add_sweep_options,
    history_filters,
    options_of,
    read_line,
    split_words,
    write_history,
)
from omnirt_lab.magics.profiling import profile


def run_parser() -> WordsParser:
    """The options of a run, as `%omnirt --help` prints them."""
    commands = "\n".join(f"  %omnirt {name:9} {command.__doc__}" for name, command in COMMANDS.items())
    parser = WordsParser(
        prog="%omnirt",
        usage="%(prog)s PROMPT [options]",
        description="Draw the prompt. As a cell magic, the cell is the prompt, exactly as written.",
        epilog=f"commands:\n{commands}\n\nPut quotes around a prompt that begins with the name of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, load and draw nothing")
    return parser


def draw(line: str, cell: str | None) -> Any:
    """Run the prompt and return its result; with `--dry-run`, what it would be."""
    prompt, arguments = read_line(run_parser(), line)
    if cell is not None:
        prompt = cell.removesuffix("\n")
    act = lab.validate if arguments.dry_run else lab.generate
    return act(prompt, **options_of(arguments))


def history_parser() -> WordsParser:
    """The options of the history, as `%omnirt history --help` prints them."""
    parser = WordsParser(prog="%omnirt history")
    add_history_options(parser)
    return parser


def history(line: str) -> Any:
    """List the runs, newest first: history --since 7d --tag good, or write them: history --csv FILE."""
    if line.strip() in ("-h", "--help"):
        print(history_parser().format_help())  # noqa: T201  # a magic's own output
        return None
    arguments = history_parser().parse_args(split_words(line))
    found = lab.history(**history_filters(arguments))
    return write_history(found, arguments) or found


def models(_line: str) -> Any:
    """List the models at hand."""
    return lab.models()


def report(line: str) -> Any:
    """Show the report of a run; of the latest without an id."""
    return lab.get_report(line.strip()) if line.strip() else lab.last_report()


def debug(line: str) -> Any:
    """Read a run's report as an expert would, and say what to try."""
    print(report(line).debug())  # noqa: T201  # a magic's own output


def replay(line: str) -> Any:
    """Run a recorded run again, by its id or picture file, and compare; the latest without one."""
    return lab.replay(line.strip() or lab.last_report())


def compare(line: str) -> Any:
    """Put two or more runs side by side, by their ids."""
    return lab.compare(*line.split())


def sweep_parser() -> WordsParser:
    """The options of a sweep, as `%omnirt sweep --help` prints them."""
    parser = WordsParser(
        prog="%omnirt sweep",
        usage="%(prog)s PROMPT [options]",
        description="Run every combination of options that are lists, such as --steps 10,20,30 --seed 1..4.",
    )
    add_run_options(parser, several=True)
    add_sweep_options(parser)
    return parser


def sweep(line: str) -> Any:
    """Run a prompt over a grid of options: sweep PROMPT --steps 10,20 --seed 1..4."""
    if line.strip() in ("-h", "--help"):
        print(sweep_parser().format_help())  # noqa: T201  # a magic's own output
        return None
    prompt, arguments = read_line(sweep_parser(), line)
    return lab.sweep(
        prompt,
        name=arguments.name,
        retry_failed=arguments.retry_failed,
        batch_size=arguments.batch_size,
        **options_of(arguments),
    )


COMMANDS: Final[dict[str, Callable[[str], Any]]] = {
    "history": history,
    "models": models,
    "report": report,
    "debug": debug,
    "replay": replay,
    "compare": compare,
    "sweep": sweep,
    "profile": profile,
}
