"""List the models that are at hand."""

from __future__ import annotations

import argparse

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments: it has none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """List, then print."""
    models = lab.models()
    if arguments.json:
        print_json(list(models))
    else:
        print(models)
    return 0
