"""The built-in text-to-image model `tiny-shapes`: its pictures, its training, its score and its weights."""

from pathlib import Path

WEIGHTS_DIR = Path(__file__).parent / "weights"
"""Folder of the shipped pipeline, for `StableDiffusionPipeline.from_pretrained`."""
