"""Slicing and tiling of a pipeline's VAE, for the length of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

from diffusers import DiffusionPipeline

from omnirt_lab.errors import NotAvailableError
from omnirt_lab.records import Config, Json, WarningData

_FLAGS: Final = {"vae_slicing": "use_slicing", "vae_tiling": "use_tiling"}
"""The request's word → the VAE's flag, which its `enable_…` and `disable_…` set."""


@contextmanager
def use_vae_settings(
    pipeline: DiffusionPipeline, config: Config, *, optional: Collection[str] = ()
) -> Iterator[tuple[WarningData, ...]]:
    """Have the VAE slice and tile in the block as the configuration says; what it leaves open stays as it is.

    Yields warnings for `optional` settings that the VAE does not have.

    Raises
    ------
    NotAvailableError
        For others that it does not have.
    """
    vae: Any = pipeline.components.get("vae")
    before: dict[str, bool] = {}
    warnings = []
    for word, flag in _FLAGS.items():
        wanted = getattr(config, word)
        if wanted is None:
            continue
        if isinstance(getattr(vae, flag, None), bool):
            before[flag] = getattr(vae, flag)
        elif wanted and word not in optional:
            raise NotAvailableError(_lack(vae, word), hint=f"Leave {word} out with this model.")
        elif wanted:
            warnings.append(WarningData(code="preset_left_out", message=_lack(vae, word)))
    try:
        for word, flag in _FLAGS.items():
            if flag in before:
                _switch(vae, word, is_on=bool(getattr(config, word)))
        yield tuple(warnings)
    finally:
        for word, flag in _FLAGS.items():
            if flag in before:
                _switch(vae, word, is_on=before[flag])


def vae_settings_in_effect(pipeline: DiffusionPipeline, config: Config) -> dict[str, Json]:
    """Of the settings that the configuration has, those that the VAE has taken on."""
    vae = pipeline.components.get("vae")
    wanted = {word: getattr(config, word) for word in _FLAGS if getattr(config, word) is not None}
    return {word: is_on for word, is_on in wanted.items() if getattr(vae, _FLAGS[word], False) is is_on}


def _switch(vae: Any, word: str, *, is_on: bool) -> None:
    getattr(vae, f"{'enable' if is_on else 'disable'}_{word.removeprefix('vae_')}")()


def _lack(vae: object, word: str) -> str:
    what = "the pipeline has no VAE" if vae is None else f"{type(vae).__name__} has no {word.removeprefix('vae_')}"
    return f"{word} was asked for, and {what}"
