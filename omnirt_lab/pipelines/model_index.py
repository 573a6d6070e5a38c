"""What a model folder says about itself in its JSON files. Loads no weights and no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from omnirt_lab.errors import ModelLoadError
from omnirt_lab.records import SIDE_MULTIPLE_PX, Json, Record

INDEX_FILE: Final = "model_index.json"

MODULAR_INDEX_FILE: Final = "modular_model_index.json"
"""Of a folder that diffusers' `ModularPipeline.save_pretrained` has written."""

_LIBRARIES: Final = ("diffusers", "transformers")
"""A modular index names what is imported; of these alone the lab knows what that does."""

DENOISERS: Final = ("unet", "transformer")


class ModelIndex(Record, frozen=True, kw_only=True):
    """A checked `model_index.json`, or `modular_model_index.json`."""

    pipeline_class: str

    components: dict[str, tuple[str, str]]
    """Component name → library and class, those that the model leaves out not listed."""

    settings: dict[str, Json] = msgspec.field(default_factory=dict)
    """What else the pipeline is made with, such as Wan's `boundary_ratio`."""

    blocks_class: str | None = None
    """Class of a modular pipeline's blocks; None for a classic one."""


class LatentShape(Record, frozen=True, kw_only=True):
    """What the component configs say about picture sizes."""

    default_size_px: int | None
    """Side of the square that the denoiser was trained on; None where its config has no single number."""

    size_multiple_px: int
    """Width and height must be multiples of this, or the pipeline refuses or silently rounds them."""


def read_index(folder: Path) -> ModelIndex:
    """Read and check the folder's `model_index.json`, or its `modular_model_index.json` if it has only that.

    Raises
    ------
    ModelLoadError
        If there is neither, it cannot be read as one, or it asks for code that comes with the model.
    """
    path = folder / INDEX_FILE
    if not path.is_file() and (folder / MODULAR_INDEX_FILE).is_file():
        return _read_modular_index(folder)
    if not path.is_file():
        raise ModelLoadError(
            f"{folder} has no {INDEX_FILE}, so it is no diffusers pipeline", hint=_no_index_hint(folder)
        )
    content = _read_json(path)
    class_name = content.get("_class_name")
    if isinstance(class_name, list):
        raise _custom_code_error(folder, f"its pipeline class {'.'.join(map(str, class_name))}")
    if not isinstance(class_name, str):
        raise ModelLoadError(
            f"{path} names no pipeline class (`_class_name`)",
            hint="Save the pipeline again with save_pretrained().",
        )
    own = {name: value for name, value in content.items() if not name.startswith("_")}
    components = {name: _library_and_class(value) for name, value in own.items()}
    return ModelIndex(
        pipeline_class=class_name,
        components={k: v for k, v in components.items() if v is not None},
        settings={name: value for name, value in own.items() if not isinstance(value, list)},
    )


def _read_modular_index(folder: Path) -> ModelIndex:
    path = folder / MODULAR_INDEX_FILE
    content = _read_json(path)
    if "auto_map" in content or (folder / "modular_config.json").is_file():
        raise _custom_code_error(folder, "its blocks")
    class_name, blocks_class = content.get("_class_name"), content.get("_blocks_class_name")
    if not (isinstance(class_name, str) and isinstance(blocks_class, str)):
        raise ModelLoadError(
            f"{path} names no pipeline class and no class of its blocks (`_class_name`, `_blocks_class_name`)",
            hint="Save the modular pipeline again with save_pretrained().",
        )
    own = {name: value for name, value in content.items() if not name.startswith("_")}
    components: dict[str, tuple[str, str]] = {}
    for name, value in own.items():
        match value:
            case [str(library), str(component_class), dict()]:
                if library.partition(".")[0] not in _LIBRARIES:
                    raise _custom_code_error(folder, f"its component {name!r} (from {library})")
                components[name] = library, component_class
    return ModelIndex(
        pipeline_class=class_name,
        components=components,
        settings={name: value for name, value in own.items() if not isinstance(value, list)},
        blocks_class=blocks_class,
    )


def check_components(folder: Path, index: ModelIndex) -> None:
    """Check that every component has its folder, and that none brings code of its own.

    Raises
    ------
    ModelLoadError
        If a component's folder is missing or empty, or holds Python code that loading would have to run.
    """
    for name, (library, class_name) in index.components.items():
        part = folder / name
        if not part.is_dir() or not any(part.iterdir()):
            raise ModelLoadError(
                f"{folder} has no files in {name!r}, where its index puts a {class_name}",
                hint="Download or copy the model again: all of its folders are needed.",
            )
        if (part / f"{library}.py").is_file():
            raise _custom_code_error(folder, f"its component {name!r} ({library}.py)")


def read_latent_shape(folder: Path) -> LatentShape:
    """Read picture sizes from the folder's configs of the denoiser and the VAE; absent ones say nothing."""
    denoiser = next((config for name in DENOISERS if (config := read_config(folder / name))), {})
    return latent_shape(denoiser, read_config(folder / "vae"))


def latent_shape(denoiser: Mapping[str, Json], vae: Mapping[str, Json]) -> LatentShape:
    """Picture sizes by the configs of a denoiser and a VAE."""
    scale = vae_scale(vae)
    sample_size = denoiser.get("sample_size")
    return LatentShape(
        default_size_px=sample_size * scale if isinstance(sample_size, int) and scale else None,
        size_multiple_px=max(SIDE_MULTIPLE_PX, (scale or 1) * patch_size(denoiser, vae)),
    )


def vae_scale(vae: Mapping[str, Json]) -> int | None:
    """Pixels a latent, along one side."""
    blocks, spatial = vae.get("block_out_channels"), vae.get("scale_factor_spatial")
    if isinstance(spatial, int):
        return spatial
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list | tuple) else None


def patch_size(denoiser: Mapping[str, Json], vae: Mapping[str, Json]) -> int:
    """Latents a token, along one side."""
    channels, latent_channels = denoiser.get("in_channels"), vae.get("latent_channels")
    if isinstance(channels, int) and isinstance(latent_channels, int) and channels == 4 * latent_channels:
        return 2  # Flux and its like pack 2 x 2 latents before the transformer sees them
    patch = denoiser.get("patch_size")
    if isinstance(patch, list | tuple):
        patch = patch[-1]
    return patch if isinstance(patch, int) else 1


def read_config(folder: Path) -> dict[str, Json]:
    """A component's `config.json`; empty where it has none."""
    path = folder / "config.json"
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Json]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Json])
    except (OSError, msgspec.DecodeError) as exc:
        raise ModelLoadError(
            f"{path} cannot be read: {exc}", hint="Download or copy the model again: this file is damaged."
        ) from exc


def _library_and_class(value: Json) -> tuple[str, str] | None:
    """A component's library and class; None for a plain setting and for a component that the model leaves out."""
    match value:
        case [str(library), str(class_name)]:
            return library, class_name
        case _:
            return None


def _no_index_hint(folder: Path) -> str:
    if any(folder.glob("*.safetensors")) or any(folder.glob("*.ckpt")):
        return "A single-file checkpoint: load it with its class's from_single_file() and save_pretrained() it."
    return f"Give the folder that holds {INDEX_FILE}, as save_pretrained() writes it."


def _custom_code_error(folder: Path, what: str) -> ModelLoadError:
    return ModelLoadError(
        f"{folder} brings Python code of its own for {what}, and the lab runs no model's code",
        hint="If you trust it, load it yourself with trust_remote_code=True and pass the pipeline to lab.observe().",
    )
