"""A key over all that decides what a run comes to: equal keys mean the same files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from omnirt_lab.pipelines.catalog import folder_revision, get_model
from omnirt_lab.pipelines.environment import environment
from omnirt_lab.pipelines.loading import resolve_placement
from omnirt_lab.pipelines.module_state import process_settings
from omnirt_lab.records import Adapter, GenerateRequest, Json


def find_result_key(request: GenerateRequest, *, embed_metadata: bool) -> str | None:
    """32 hex digits over the request, its model's and adapters' files, software, hardware and torch's settings.

    None for a request without a seed, and for one with an adapter of the hub, whose files are not known before they are
    loaded. Files are known by name, size and time. Loads no weights.

    Parameters
    ----------
    embed_metadata
        Whether what made them is written into the files.

    Raises
    ------
    UnknownModelError, ModelLoadError, NotAvailableError
        As the run itself would.
    """
    if request.config.seed is None:
        return None
    adapters = _identities(request.adapters)
    if adapters is None:
        return None
    source = get_model(request.model)
    config = replace(request.config, result_cache=None)
    decides = {
        "request": replace(request, model=source.location, adapters=(), config=config),
        "adapters": adapters,
        "revision": source.revision,
        "environment": environment(),
        "device": str(resolve_placement(config.dtype, config.device).device),
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "torch": repr(process_settings()),
        "embed_metadata": embed_metadata,
    }
    return hashlib.blake2b(msgspec.json.encode(decides, order="sorted"), digest_size=16).hexdigest()


def _identities(adapters: Sequence[Adapter]) -> list[list[Json]] | None:
    """Each adapter with the state of its files; None if one is not on this machine as a file or folder."""
    found: list[list[Json]] = []
    for adapter in adapters:
        path = Path(adapter.source).expanduser()
        if path.is_dir():
            revision = folder_revision(path)
        elif path.is_file():
            stat = path.stat()
            revision = f"{stat.st_size} {stat.st_mtime_ns}"
        else:
            return None
        found.append([str(path.resolve()), revision, adapter.name, adapter.scale, adapter.weight_name])
    return found
