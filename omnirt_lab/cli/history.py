"""List the runs of the history, newest first, or write them to a file."""

from __future__ import annotations

import argparse

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import add_history_options, history_filters, write_history


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_history_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Query, then write files, or print."""
    history = lab.history(**history_filters(arguments))
    written = write_history(history, arguments)
    if written:
        print(*written, sep="\n")
    elif arguments.json:
        print_json(history.rows())
    else:
        print(history)
    return 0
