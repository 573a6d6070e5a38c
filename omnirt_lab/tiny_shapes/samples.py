"""Batches for training, each drawn anew from a torch generator and so the same in every process."""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from omnirt_lab.tiny_shapes.captions import caption
from omnirt_lab.tiny_shapes.scenes import (
    Scene,
    Triple,
    default_background,
    draw_scene,
    is_held_out,
    sample_scene,
    train_triples,
)

DEFAULT_BACKGROUND_SHARE = 0.25
"""Share of the scenes that are moved to the background of captions that name none."""

CAPTION_DROP_SHARE = 0.1
"""Share of the captions replaced by the empty one, which guidance compares with."""


def python_rng(rng: torch.Generator) -> Random:
    """Return a Python generator seeded by the next draw of `rng`."""
    return Random(int(torch.randint(2**62, (1,), generator=rng)))


def random_scenes(count: int, rng: Random) -> list[Scene]:
    """Draw scenes whose triples are not held out."""
    triples = train_triples()
    return [sample_scene(_maybe_default(rng.choice(triples), rng), rng) for _ in range(count)]


def training_caption(scene: Scene, rng: Random) -> str:
    """Say the scene, or nothing in one of ten cases."""
    return "" if rng.random() < CAPTION_DROP_SHARE else caption(scene, rng)


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Stack RGB pictures of one size as float32 (B, 3, H, W), -1 to 1."""
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 127.5 - 1


def draw_scenes(scenes: Sequence[Scene]) -> Tensor:
    """Draw the scenes as float32 (B, 3, 64, 64), -1 to 1."""
    return to_tensor([draw_scene(scene) for scene in scenes])


def picture_batch(count: int, rng: torch.Generator) -> Tensor:
    """Return new pictures, (count, 3, 64, 64), -1 to 1."""
    return draw_scenes(random_scenes(count, python_rng(rng)))


def crop_batch(count: int, side_px: int, rng: torch.Generator) -> Tensor:
    """Return random square crops of new pictures, (count, 3, side_px, side_px), -1 to 1."""
    pictures = picture_batch(count, rng)
    corners = torch.randint(pictures.shape[-1] - side_px + 1, (count, 2), generator=rng).tolist()
    crops = [p[:, y : y + side_px, x : x + side_px] for p, (y, x) in zip(pictures, corners, strict=True)]
    return torch.stack(crops)


def _maybe_default(triple: Triple, rng: Random) -> Triple:
    moved = Triple(shape=triple.shape, colour=triple.colour, background=default_background(triple.colour))
    return triple if is_held_out(moved) or rng.random() > DEFAULT_BACKGROUND_SHARE else moved
