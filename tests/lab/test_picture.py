"""The main job on real input: the picture is what the prompt says, read back by the verifier."""

from __future__ import annotations

import numpy as np
import pytest

from omnirt_lab import Lab
from omnirt_lab.tiny_shapes.verifier import read_picture


@pytest.mark.parametrize(
    ("prompt", "colour", "shape", "background"),
    [
        ("a red circle on a blue background", "red", "circle", "blue"),
        ("a yellow star on a purple background", "yellow", "star", "purple"),
        ("a small green square on a white background", "green", "square", "white"),
    ],
)
def test_the_picture_is_what_the_prompt_says(lab: Lab, prompt: str, colour: str, shape: str, background: str) -> None:
    result = lab.generate(prompt, steps=20, seed=7, progress=False)

    seen = read_picture(result.images[0])

    assert (seen.colour, seen.shape, seen.background) == (colour, shape, background)
    assert np.asarray(result.images[0]).shape == (64, 64, 3)
