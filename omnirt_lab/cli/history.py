"""List the runs of the history, newest first."""

from __future__ import annotations

import argparse

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import HISTORY_OPTIONS, add_history_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_history_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Query, then print."""
    filters = {name: value for name, value in vars(arguments).items() if name in HISTORY_OPTIONS}
    history = lab.history(**filters)
    if arguments.json:
        print_json(history.rows())
    else:
        print(history)
    return 0
