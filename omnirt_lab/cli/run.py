"""Run a pipeline on a prompt; print the report and save what it made."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from omnirt_lab.cli.output import print_json
from omnirt_lab.lab import api as lab
from omnirt_lab.lab.results import GenerateResult
from omnirt_lab.lab.stores import STORES
from omnirt_lab.lab.words import add_run_options, options_of

_NAMES: Final = {
    "image/png": ("picture", ".png"),
    "video/mp4": ("video", ".mp4"),
    "audio/wav": ("sound", ".wav"),
}
"""Media type → how such a file is called."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("prompt", help="what to draw")
    add_run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="check everything, load and draw nothing")
    parser.add_argument("--out", type=Path, metavar="DIR", help="save what it made, report.png and report.json here")
    parser.add_argument("--report-png", type=Path, metavar="FILE", help="save the report as a picture")


def run(arguments: argparse.Namespace) -> int:
    """Generate, then show; or only say what would be run."""
    if arguments.dry_run:
        validation = lab.validate(arguments.prompt, **options_of(arguments))
        print_json(validation) if arguments.json else print(validation)
        return 0
    result = lab.generate(arguments.prompt, progress=not arguments.json, **options_of(arguments))
    saved = _save(result, arguments)
    if arguments.json:
        print_json(result)
        return 0
    print(result.report.to_text())
    for path in saved:
        print(f"saved {path}")
    return 0


def _save(result: GenerateResult, arguments: argparse.Namespace) -> list[Path]:
    saved = []
    if arguments.out is not None:
        folder: Path = arguments.out
        folder.mkdir(parents=True, exist_ok=True)
        for output in result.outputs:
            name, suffix = _NAMES[output.media_type]
            saved.append(folder / f"{name}-{output.index}{suffix}")
            saved[-1].write_bytes(STORES.read(output.sha256))
        saved += [folder / "report.png", folder / "report.json"]
        result.report.to_png(folder / "report.png")
        (folder / "report.json").write_text(result.report.to_json(), encoding="utf-8")
    if arguments.report_png is not None:
        arguments.report_png.parent.mkdir(parents=True, exist_ok=True)
        result.report.to_png(arguments.report_png)
        saved.append(arguments.report_png)
    return saved
