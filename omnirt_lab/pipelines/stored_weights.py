"""What a model's weights will take in memory, by the headers of its safetensors files: no weight is read.

Source: the header of https://huggingface.co/docs/safetensors (8 bytes of length, then JSON: dtype, shape, offsets).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import huggingface_hub
import msgspec

from omnirt_lab.errors import ModelLoadError
from omnirt_lab.pipelines.catalog import ModelSource
from omnirt_lab.pipelines.model_index import DENOISERS, INDEX_FILE, read_index
from omnirt_lab.records import Json, Quantization

BYTES_OF: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of one weight, by the dtype that a request may ask for."""

_NAMES: Final = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""What diffusers and transformers load; the same with `.index.json` where the weights lie in several files."""

_PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt")
"""What may hold weights and has no header that could be read without running it."""

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
"""What safetensors itself takes at most."""

_FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Stored dtypes that loading casts to the one that was asked for."""

_BITS_OF: Final = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16} | {
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip

_MATRIX: Final = 2
_BITS_AND_SCALES: Final[dict[Quantization, tuple[int, int, int | None]]] = {
    "int8": (8, 4, None),
    "float8": (8, 4, None),
    "int4": (4, 4, 128),
    "nf4": (4, 4, 64),
}
"""Bits of a weight, bytes of a scale, and how many weights share one; None: a row of the matrix does."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, as its file's header has it."""

    name: str

    dtype: str
    """safetensors' word: `F32`, `BF16` …"""

    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightSize:
    """What one component's weights take."""

    total_bytes: int

    largest_layer_bytes: int
    """Of the layer with the most, such as one linear layer's weight and bias."""


def weight_sizes(
    source: ModelSource, *, dtype: str, quantization: Quantization | None = None
) -> dict[str, WeightSize] | None:
    """What each component with weights will take in memory, held in `dtype`.

    Quantised are the matrices of the denoisers, as loading does it. Weights that a model keeps in float32 whatever is
    asked for are counted as cast: norms mostly, and with float16 a T5's `wo`.

    Returns
    -------
    dict or None
        None where it cannot be told: a hub model that is not (whole) in the cache, and weights in pickles.

    Raises
    ------
    ModelLoadError
        If a file's header is damaged.
    """
    stored = _stored(source.location, source.kind == "hub", source.revision)
    if stored is None:
        return None
    return {
        name: _size(
            tensors,
            dtype=None if is_quantized else dtype,
            quantization=quantization if name.removesuffix("_2") in DENOISERS else None,
        )
        for name, (tensors, is_quantized) in stored.items()
    }


def local_folder(source: ModelSource) -> Path | None:
    """Where the model's files lie; None for a hub model that is not in the cache."""
    return _folder(source.location, source.kind == "hub", source.revision)


def _folder(location: str, is_hub: bool, revision: str) -> Path | None:
    if not is_hub:
        return Path(location)
    found = huggingface_hub.try_to_load_from_cache(location, INDEX_FILE, revision=revision)
    return Path(found).parent if isinstance(found, str) else None


@lru_cache(maxsize=16)
def _stored_in(folder: Path, revision: str) -> dict[str, tuple[tuple[StoredTensor, ...], bool]] | None:  # noqa: ARG001  # other files are another revision
    """Component → its tensors, and whether they are stored quantised, which nothing casts."""
    found = {}
    for name in read_index(folder).components:
        tensors = _tensors_in(folder / name)
        if tensors is None:
            return None
        if tensors:
            found[name] = tensors, "quantization_config" in _read(folder / name / "config.json")
    return found


def _stored(location: str, is_hub: bool, revision: str) -> dict[str, tuple[tuple[StoredTensor, ...], bool]] | None:
    folder = _folder(location, is_hub, revision)
    return None if folder is None else _stored_in(folder, revision)


def _tensors_in(component: Path) -> tuple[StoredTensor, ...] | None:
    """All tensors of one component; empty for one without weights, None where they cannot be known."""
    if not component.is_dir():
        return None  # a download is under way, or was broken off
    files = _files_in(component)
    if not files:
        return None if any(next(component.glob(kind), None) for kind in _PICKLES) else ()
    if not all(path.is_file() for path in files):
        return None
    return tuple(tensor for path in files for tensor in _header(path))


def _files_in(component: Path) -> list[Path]:
    for name in _NAMES:
        index = _read(component / f"{name}.index.json").get("weight_map")
        if isinstance(index, dict):
            return [component / str(file) for file in sorted(set(index.values()))]
        if (component / name).is_file():
            return [component / name]
    return []


def _header(path: Path) -> Iterator[StoredTensor]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _MAX_HEADER_BYTES:
                raise ModelLoadError(f"{path} has no header", hint="Download or copy that file again.")
            header = msgspec.json.decode(file.read(length), type=dict[str, dict[str, Json]])
        for name, facts in header.items():
            if name != "__metadata__":
                shape = facts["shape"]
                assert isinstance(shape, list)
                yield StoredTensor(name, str(facts["dtype"]), tuple(map(int, shape)))
    except (OSError, msgspec.DecodeError, LookupError, AssertionError, TypeError, ValueError) as exc:
        raise ModelLoadError(f"{path} is damaged ({exc})", hint="Download or copy that file again.") from exc


def _size(tensors: tuple[StoredTensor, ...], *, dtype: str | None, quantization: Quantization | None) -> WeightSize:
    layers: dict[str, int] = {}
    for tensor in tensors:
        layer = tensor.name.rpartition(".")[0]
        layers[layer] = layers.get(layer, 0) + _bytes_of(tensor, dtype, quantization)
    return WeightSize(sum(layers.values()), max(layers.values()))


def _bytes_of(tensor: StoredTensor, dtype: str | None, quantization: Quantization | None) -> int:
    if quantization is not None and len(tensor.shape) == _MATRIX and tensor.name.endswith("weight"):
        bits, scale_bytes, group = _BITS_AND_SCALES[quantization]
        scales = tensor.shape[0] if group is None else math.ceil(tensor.count / group)
        return tensor.count * bits // 8 + scales * scale_bytes
    if dtype is not None and tensor.dtype in _FLOATS:
        return tensor.count * BYTES_OF[dtype]
    return tensor.count * _BITS_OF.get(tensor.dtype, 8) // 8


def _read(path: Path) -> Mapping[str, Json]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Json])
    except (OSError, msgspec.DecodeError) as exc:
        raise ModelLoadError(f"{path} is damaged ({exc})", hint="Download or copy that file again.") from exc
