"""Read a run's report as an expert would, and say what to try."""

from __future__ import annotations

import argparse

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("run", nargs="?", help="a run's id or its beginning (default: the latest run)")


def run(arguments: argparse.Namespace) -> int:
    """Diagnose, then print."""
    report = lab.get_report(arguments.run) if arguments.run else lab.last_report()
    if arguments.json:
        print_json({"run_id": report.run_id, "findings": report.findings()})
    else:
        print(report.debug())
    return 0
