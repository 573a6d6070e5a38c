"""A modular folder to a pipeline in memory, with all components that any of its workflows uses."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import diffusers
from diffusers import ModularPipeline

from omnirt_lab.errors import LabError, ModelLoadError
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.library_messages import quiet_libraries
from omnirt_lab.pipelines.loading import DTYPE_KEYWORD, LOADER_ERRORS, Loaded, Placement, checked_warnings, load_error
from omnirt_lab.pipelines.model_index import check_components, read_index
from omnirt_lab.pipelines.modular_blocks import require_modular
from omnirt_lab.pipelines.setup import NO_SETUP, Setup, make_ready

_OF_GUIDERS: Final = "Guiders are currently an experimental feature"
"""They say so whenever one is made."""


def load_modular(source: ModelSource, *, placement: Placement, setup: Setup = NO_SETUP) -> Loaded:
    """Load the components from the folder itself, wherever its index says that they came from.

    Raises
    ------
    NotAvailableError
        If diffusers is too old, or the setup asks for something that the pipeline does not have.
    ModelLoadError
        If files are missing, damaged, incomplete or foreign, or do not fit into memory.
    """
    require_modular()
    folder = Path(source.location)
    names = list(read_index(folder).components)
    check_components(folder, read_index(folder))
    try:
        with quiet_libraries() as messages:
            pipeline = ModularPipeline.from_pretrained(str(folder), local_files_only=True)
            pipeline.load_components(
                names,
                pretrained_model_name_or_path=str(folder),
                subfolder={name: name for name in names},
                local_files_only=True,
                **{DTYPE_KEYWORD: placement.dtype},
            )
        _require_loaded(source, pipeline, names, messages)
        notes = checked_warnings(source, [message for message in messages if _OF_GUIDERS not in message])
        make_ready(pipeline, setup, placement.device)
    except LabError:
        raise
    except LOADER_ERRORS as exc:
        raise load_error(source, exc) from exc
    return Loaded(pipeline=pipeline, warnings=notes)


def _require_loaded(source: ModelSource, pipeline: ModularPipeline, names: list[str], messages: list[str]) -> None:
    """Diffusers only logs what it could not load."""
    missing = [name for name in names if pipeline.components.get(name) is None]
    if missing:
        said = next((text for text in messages if missing[0] in text), "diffusers does not say why")
        raise ModelLoadError(
            f"{', '.join(missing)} of {source.name} could not be loaded: {said.strip().splitlines()[-1]}",
            hint=f"Download the model again, or save it with diffusers {diffusers.__version__}.",
        )
