"""`omnirt`: reads the command, runs it, and turns the lab's errors into a message or JSON and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from types import ModuleType
from typing import Final

from omnirt_lab.cli import compare, debug, history, models, replay, run, sweep
from omnirt_lab.cli.output import print_error
from omnirt_lab.errors import InvalidRequestError, LabError
from omnirt_lab.executors.collection import end_quickly
from omnirt_lab.lab.words import WordsParser

_COMMANDS: Final[dict[str, ModuleType]] = {
    "run": run,
    "history": history,
    "models": models,
    "debug": debug,
    "replay": replay,
    "compare": compare,
    "sweep": sweep,
}

_PLUGINS: Final = "omnirt.commands"
"""Entry points of packages above this one, such as the server's `serve`; each names a module like those here."""

EXIT_FAILED: Final = 1
EXIT_BAD_REQUEST: Final = 2
EXIT_INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


def find_commands() -> dict[str, ModuleType]:
    """Return all subcommands by name: this package's, then those of installed packages."""
    return _COMMANDS | {point.name: point.load() for point in entry_points(group=_PLUGINS)}


def build_parser(subcommands: dict[str, ModuleType]) -> WordsParser:
    """Build the parser with these subcommands."""
    parser = WordsParser(prog="omnirt", description="Run diffusion pipelines, and see where the time and memory went.")
    parser.add_argument("--version", action="version", version=f"omnirt {version('omnirt-lab')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in subcommands.items():
        summary = str(module.__doc__).partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print JSON instead of text")
        module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0, 1 failed, 2 bad request, 130 interrupted."""
    words = sys.argv[1:] if argv is None else list(argv)
    if argv is None:  # else the process is the caller's
        end_quickly()
    as_json = "--json" in words
    subcommands = find_commands()
    try:
        arguments = build_parser(subcommands).parse_args(words)
        status: int = subcommands[arguments.command].run(arguments)
    except InvalidRequestError as error:
        print_error(error, as_json=as_json)
        return EXIT_BAD_REQUEST
    except LabError as error:
        print_error(error, as_json=as_json)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main())
