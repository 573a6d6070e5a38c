"""Run a recorded run again, and say whether it made the same bits."""

from __future__ import annotations

import argparse

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab

EXIT_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("run", nargs="?", help="a run's id, or a PNG that the lab stored (default: the latest run)")


def run(arguments: argparse.Namespace) -> int:
    """Replay, then print; the status is 1 for a different picture."""
    replay = lab.replay(arguments.run or lab.last_report(), progress=not arguments.json)
    if arguments.json:
        print_json(replay)
    else:
        print(replay)
    return EXIT_DIFFERENT if replay.verdict == "different" else 0
