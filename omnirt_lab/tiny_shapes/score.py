"""Scores a pipeline on captions it never saw: `python -m omnirt_lab.tiny_shapes.score MODEL_DIR`.

Prints one JSON object and a table: the percentage of pictures whose background, colour and shape are what the caption
says. A picture has the seed `--seed` plus its number, so every figure can be had again.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
)
from PIL import Image

from omnirt_lab.tiny_shapes.captions import caption
from omnirt_lab.tiny_shapes.scenes import PICTURE_PX, Triple, held_out_triples, sample_scene
from omnirt_lab.tiny_shapes.verifier import Verdict, judge

SCHEDULERS = {"ddim": DDIMScheduler, "dpm": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler}
GAP_PX = 4
PAPER = (255, 255, 255)
WRONG = (214, 40, 40)
"""Colour of the frame around a wrong picture on the contact sheet."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One picture to ask for."""

    caption: str
    triple: Triple
    seed: int


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Percentages of right pictures, 0 to 100, and how they were made."""

    captions: int
    seed: int
    steps: int
    guidance: float
    scheduler: str
    background: float
    colour: float
    shape: float
    all: float

    colour_and_shape: float

    seconds_per_picture: float
    """Wall time of the pipeline's calls over the number of pictures; batched as `--batch` says."""

    wrong: list[str]
    """Captions of the pictures that are not entirely right."""


def main() -> None:
    """Score the model that the command line names."""
    arguments = _parser().parse_args()
    torch.set_num_threads(arguments.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.model, local_files_only=True)
    pipeline.scheduler = SCHEDULERS[arguments.scheduler].from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    tasks = held_out_tasks(arguments.captions, arguments.seed)
    started = time.perf_counter()
    batches = draw(pipeline, tasks, steps=arguments.steps, guidance=arguments.guidance, batch=arguments.batch)
    images = [image for batch in batches for image in batch]
    pace_s = (time.perf_counter() - started) / len(tasks)
    verdicts = [judge(image, task.triple) for image, task in zip(images, tasks, strict=True)]
    score = summarise(
        tasks,
        verdicts,
        seed=arguments.seed,
        steps=arguments.steps,
        guidance=arguments.guidance,
        scheduler=arguments.scheduler,
        seconds_per_picture=round(pace_s, 3),
    )
    print(msgspec.json.encode(score).decode())
    print(table(score))
    if arguments.sheet:
        contact_sheet(images[: arguments.sheet_pictures], verdicts).save(arguments.sheet, optimize=True)


def held_out_tasks(count: int, seed: int) -> list[Task]:
    """Draw captions of held-out triples; each says its colour."""
    rng, triples = Random(seed), held_out_triples()
    tasks: list[Task] = []
    while len(tasks) < count:
        triple = rng.choice(triples)
        text = caption(sample_scene(triple, rng), rng)
        if triple.colour in text.split():
            tasks.append(Task(caption=text, triple=triple, seed=seed + len(tasks)))
    return tasks


def draw(
    pipeline: StableDiffusionPipeline, tasks: Sequence[Task], *, steps: int, guidance: float, batch: int
) -> Iterator[list[Image.Image]]:
    """Yield the pictures of each batch of tasks; every picture has a generator of its own."""
    for start in range(0, len(tasks), batch):
        part = tasks[start : start + batch]
        generators = [torch.Generator().manual_seed(task.seed) for task in part]
        captions = [task.caption for task in part]
        answer = pipeline(captions, num_inference_steps=steps, guidance_scale=guidance, generator=generators)
        yield answer.images


def summarise(
    tasks: Sequence[Task],
    verdicts: Sequence[Verdict],
    *,
    seed: int,
    steps: int,
    guidance: float,
    scheduler: str,
    seconds_per_picture: float,
) -> Score:
    """Count what was right."""
    return Score(
        captions=len(tasks),
        seed=seed,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        background=_percent([verdict.background for verdict in verdicts]),
        colour=_percent([verdict.colour for verdict in verdicts]),
        shape=_percent([verdict.shape for verdict in verdicts]),
        all=_percent([verdict.is_right for verdict in verdicts]),
        colour_and_shape=_percent([verdict.colour and verdict.shape for verdict in verdicts]),
        seconds_per_picture=seconds_per_picture,
        wrong=[task.caption for task, verdict in zip(tasks, verdicts, strict=True) if not verdict.is_right],
    )


def table(score: Score) -> str:
    """Return the percentages as a Markdown table."""
    head = "| captions | seed | scheduler | steps | guidance | background | colour | shape | colour and shape | all |"
    how = f"| {score.captions} | {score.seed} | {score.scheduler} | {score.steps} | {score.guidance:g} "
    right = (score.background, score.colour, score.shape, score.colour_and_shape, score.all)
    return "\n".join([head, "|" + "---|" * 10, how + "".join(f"| {part:.1f} % " for part in right) + "|"])


def contact_sheet(images: Sequence[Image.Image], verdicts: Sequence[Verdict], columns: int = 10) -> Image.Image:
    """Lay the pictures out in rows, each wrong one in a red frame."""
    cell_px = PICTURE_PX + 2 * GAP_PX
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * cell_px, rows * cell_px), PAPER)
    for number, (image, verdict) in enumerate(zip(images, verdicts, strict=False)):
        x, y = number % columns * cell_px, number // columns * cell_px
        sheet.paste(PAPER if verdict.is_right else WRONG, (x + 1, y + 1, x + cell_px - 1, y + cell_px - 1))
        sheet.paste(image, (x + GAP_PX, y + GAP_PX))
    return sheet


def _percent(right: Sequence[bool]) -> float:
    return round(100 * sum(right) / len(right), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a saved StableDiffusionPipeline")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--scheduler", choices=SCHEDULERS, default="ddim")
    parser.add_argument("--batch", type=int, default=20, help="captions drawn in one call")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--sheet", type=Path, help="where to save the contact sheet, a PNG")
    parser.add_argument("--sheet-pictures", type=int, default=40)
    return parser


if __name__ == "__main__":
    main()
