"""Run a prompt over a grid of options; print the table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab
from omnirt_lab.lab.words import add_run_options, add_sweep_options, options_of

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("prompt", help="what to draw")
    add_run_options(parser, several=True)
    add_sweep_options(parser)
    parser.add_argument("--png", type=Path, metavar="FILE", help="save the grid of pictures")


def run(arguments: argparse.Namespace) -> int:
    """Sweep, then print; the status is 1 where a run failed, and 130 after an interrupt."""
    sweep = lab.sweep(
        arguments.prompt,
        name=arguments.name,
        progress=not arguments.json,
        retry_failed=arguments.retry_failed,
        batch_size=arguments.batch_size,
        **options_of(arguments),
    )
    if arguments.png is not None:
        sweep.to_png(arguments.png)
    if arguments.json:
        print_json(sweep.to_dict())
    else:
        print(sweep)
    if sweep.was_interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if any(cell.state != "succeeded" for cell in sweep.cells) else 0
