"""The models that can be run: built in, in a local folder, or on the Hugging Face hub. Loads no torch."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import huggingface_hub
import msgspec
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import (
    CacheNotFound,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from omnirt_lab.errors import ModelLoadError, UnknownModelError
from omnirt_lab.pipelines.model_index import INDEX_FILE, check_components, read_index, read_latent_shape
from omnirt_lab.pipelines.task_classes import tasks_of
from omnirt_lab.records import SIDE_MULTIPLE_PX, Json, Record, Task

ModelKind = Literal["builtin", "folder", "hub"]

_BUILTIN: Final = {"tiny-shapes": Path(__file__).parents[1] / "tiny_shapes" / "weights"}

BUILTIN_NAMES: Final = tuple(_BUILTIN)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class ModelSource(Record, frozen=True, kw_only=True):
    """Where a model lies and what it can do; enough to check a request before anything heavy happens."""

    name: str
    """As the user gives it: a built-in name, a folder or a hub id."""

    location: str
    """Absolute path of the folder, or the hub id."""

    kind: ModelKind

    pipeline_class: str
    """The diffusers class that the model was saved with."""

    tasks: tuple[Task, ...]
    """What that class, or a sibling on the same weights, can do."""

    revision: str
    """Commit of a hub model; for a folder a digest of its files' names, sizes and times."""

    default_size_px: int | None = None
    """Side of the square that the model was trained on; None where its configs do not say."""

    size_multiple_px: int = SIDE_MULTIPLE_PX
    """Width and height must be multiples of this."""

    settings: dict[str, Json] = msgspec.field(default_factory=dict)
    """What the pipeline is made with beside its components, such as Wan's `boundary_ratio`."""

    blocks_class: str | None = None
    """Class of its blocks, for a modular folder, which only `execution_mode="modular"` can run; else None."""


def get_model(name: str, *, cache_dir: Path | None = None) -> ModelSource:
    """Look a model up by its built-in name, folder or hub id.

    `cache_dir` stands in for the user's Hugging Face cache.

    Raises
    ------
    UnknownModelError
        If nothing has this name; the hint has the nearest ones that exist.
    ModelLoadError
        If it exists and is no pipeline that the lab can load.
    """
    source = find_model(name, cache_dir=cache_dir)
    if source is None:
        raise UnknownModelError(f"no model is called {name!r}", hint=_unknown_hint(name, cache_dir))
    return source


def find_model(name: str, *, cache_dir: Path | None = None) -> ModelSource | None:
    """Look a model up as `get_model` does; None if nothing has this name.

    A hub model that is not in the cache is looked up on the hub, unless `HF_HUB_OFFLINE` is set.

    Raises
    ------
    ModelLoadError
        If it exists and is no pipeline that the lab can load.
    """
    builtin = _BUILTIN.get(name)
    if builtin is not None:
        return _read_folder(name, builtin, kind="builtin") if builtin.is_dir() else None
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _read_folder(name, folder.resolve(), kind="folder")
    if folder.is_file():
        raise ModelLoadError(
            f"{name} is a single file, and the lab loads folders",
            hint="Load it with the pipeline class's from_single_file(), save_pretrained() it, and give that folder.",
        )
    return _read_hub_model(name, cache_dir) if _HUB_ID.fullmatch(name) else None


def list_models(*, cache_dir: Path | None = None) -> tuple[ModelSource, ...]:
    """All models at hand without a download: the built-in ones, then the cached hub pipelines by name."""
    return tuple(_each_model(cache_dir))


def _each_model(cache_dir: Path | None) -> Iterator[ModelSource]:
    for name, folder in _BUILTIN.items():
        if folder.is_dir():
            yield _read_folder(name, folder, kind="builtin")
    for name in _cached_hub_ids(cache_dir):
        try:
            source = _read_hub_model(name, cache_dir)
        except ModelLoadError:  # it is listed nowhere; asking for it by name says what is wrong with it
            continue
        if source is not None:
            yield source


def _cached_hub_ids(cache_dir: Path | None) -> list[str]:
    try:
        cache = huggingface_hub.scan_cache_dir(cache_dir)
    except (CacheNotFound, ValueError):  # ValueError: the cache's path is a file
        return []
    ids = [repo.repo_id for repo in cache.repos if repo.repo_type == "model"]
    return sorted(name for name in ids if _cached_index(name, cache_dir) is not None)


def _read_folder(name: str, folder: Path, *, kind: ModelKind) -> ModelSource:
    return _describe_folder(name, folder, kind, folder_revision(folder))


@lru_cache(maxsize=64)
def _describe_folder(name: str, folder: Path, kind: ModelKind, revision: str) -> ModelSource:
    """Read and check a folder, once while its files are the same: another one, or a newer, is another revision."""
    index = read_index(folder)
    check_components(folder, index)
    shape = read_latent_shape(folder)
    return ModelSource(
        name=name,
        location=str(folder),
        kind=kind,
        pipeline_class=index.pipeline_class,
        tasks=tasks_of(index.pipeline_class.replace("ModularPipeline", "Pipeline")),
        revision=revision,
        default_size_px=shape.default_size_px,
        size_multiple_px=shape.size_multiple_px,
        settings=index.settings,
        blocks_class=index.blocks_class,
    )


def folder_revision(folder: Path) -> str:
    """A digest of the files' names, sizes and times."""
    digest = hashlib.sha256()
    for path, stat in sorted(_files_in(str(folder)), key=lambda found: found[0].split(os.sep)):  # noqa: PTH206
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _files_in(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Path within the folder and stat of each of its files. Asked for in each run, so no `Path` is made of them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from ((os.path.join(entry.name, path), stat) for path, stat in _files_in(entry.path))  # noqa: PTH118
            elif entry.is_file():
                yield entry.name, entry.stat()


def _read_hub_model(name: str, cache_dir: Path | None) -> ModelSource | None:
    index_path = _cached_index(name, cache_dir) or _fetch_index(name, cache_dir)
    if index_path is None:
        return None
    index = read_index(index_path.parent)
    shape = read_latent_shape(index_path.parent)
    return ModelSource(
        name=name,
        location=name,
        kind="hub",
        pipeline_class=index.pipeline_class,
        tasks=tasks_of(index.pipeline_class),
        revision=index_path.parent.name,  # the cache keeps each commit in a folder of its name
        default_size_px=shape.default_size_px,
        size_multiple_px=shape.size_multiple_px,
        settings=index.settings,
    )


def _cached_index(name: str, cache_dir: Path | None) -> Path | None:
    try:
        path = huggingface_hub.try_to_load_from_cache(name, INDEX_FILE, cache_dir=cache_dir)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _fetch_index(name: str, cache_dir: Path | None) -> Path | None:
    """Download `model_index.json` alone; None if the hub has no such model or cannot be asked."""
    try:
        return Path(huggingface_hub.hf_hub_download(name, INDEX_FILE, cache_dir=cache_dir))
    except GatedRepoError as exc:
        raise ModelLoadError(
            f"{name} is on the hub behind a licence that you have not accepted",
            hint=f"Accept it at https://huggingface.co/{name} and log in with `hf auth login`.",
        ) from exc
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HFValidationError):
        return None
    except EntryNotFoundError as exc:
        raise ModelLoadError(
            f"{name} is on the hub and has no {INDEX_FILE}, so it is no diffusers pipeline",
            hint="Look for a repository of the same model in diffusers' format.",
        ) from exc
    except HfHubHTTPError as exc:
        raise ModelLoadError(f"the hub does not answer for {name}: {exc}", hint="Try again in a minute.") from exc


def _unknown_hint(name: str, cache_dir: Path | None) -> str:
    known = [*_BUILTIN, *_cached_hub_ids(cache_dir)]
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
    if not _HUB_ID.fullmatch(name):
        return f"Known here: {', '.join(nearest)}; a folder with {INDEX_FILE} or a hub id `owner/name` works too."
    if HF_HUB_OFFLINE:
        return f"It is not in the Hugging Face cache, and HF_HUB_OFFLINE is set. Known here: {', '.join(nearest)}."
    return f"The hub has no such model, or cannot be reached. Known here: {', '.join(nearest)}."
