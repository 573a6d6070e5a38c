"""Put two or more runs side by side: what differs, in time and in the pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("runs", nargs="+", metavar="run", help="a run's id or its beginning; the first is held against")
    parser.add_argument("--png", type=Path, metavar="FILE", help="save the comparison as a picture")


def run(arguments: argparse.Namespace) -> int:
    """Compare, then print."""
    comparison = lab.compare(*arguments.runs)
    if arguments.png is not None:
        comparison.to_png(arguments.png)
    if arguments.json:
        print_json(comparison.to_dict())
    else:
        print(comparison)
    return 0
