"""Runs that tests write into a journal, for explorers to show."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageDraw

from omnirt_lab.journal import Journal
from omnirt_lab.lab.plan import plan_of
from omnirt_lab.records import Artifact, ErrorInfo, JobFailedData
from tests.journal.writing import begin, run

WICKED: Final = '<img src=x onerror="window.hacked=1"> a wicked prompt'
OPTIONS: Final[dict[str, list[float]]] = {"steps": [2, 4, 6], "guidance_scale": [1.0, 5.0]}


def pictured(journal: Journal, colour: str) -> Artifact:
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 50, 50), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return journal.artifacts.put_bytes(buffer.getvalue(), "image/png", width_px=64, height_px=64)


def swept(journal: Journal, prompt: str, options: dict[str, list[float]], name: str) -> None:
    """The runs of a sweep, the last one failed."""
    *requests, last = plan_of(prompt, options).requests
    with journal.worker() as worker:
        for request in requests:
            journal.tag(run(journal, worker, request, artifacts=(pictured(journal, "teal"),)).run_id, f"sweep:{name}")
        failed = begin(journal, worker, last).finish(JobFailedData(error=ErrorInfo(type="ValueError", message=WICKED)))
        journal.tag(failed.run_id, f"sweep:{name}")
