"""Checksums over all weights of a module: they tell whether two runs had the same ones. They are no signature."""

from __future__ import annotations

import hashlib
from typing import Final, TypeAlias

import numpy as np
import torch

from omnirt_lab.pipelines.module_state import is_plain
from omnirt_lab.units import BYTES_PER_MIB

MAX_BYTES: Final = 8 * 1024 * BYTES_PER_MIB
"""Of a module with more weights no fingerprint is taken: reading them would take seconds."""

_WORD_BYTES: Final = 8
_BLOCK_WORDS: Final = 2**14
_CHUNK_BYTES: Final = 64 * BYTES_PER_MIB
"""What is brought from the device at a time."""

_ODD: Final = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: its multiples are spread evenly, and it is odd."""

_MASK: Final = 2**64 - 1

Words: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]

_ODD_NUMBERS: Final[Words] = np.arange(1, _BLOCK_WORDS + 1, dtype=np.uint64) * np.uint64(_ODD) | np.uint64(1)
_ZEROS: Final = np.zeros(_WORD_BYTES, dtype=np.uint8)


def fingerprint(module: torch.nn.Module) -> str | None:
    """16 hex digits over names, shapes, dtypes and values of all parameters and buffers, on whatever device.

    None without weights, for more than 8 GiB of them, and where their values cannot be read: on the meta device and of
    quantised classes.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if not 0 < size_bytes <= MAX_BYTES or not all(map(is_plain, tensors.values())):
        return None
    return _take(tensors)


def _take(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} {_checksum(tensor):016x};".encode())
    return digest.hexdigest()


def _checksum(tensor: torch.Tensor) -> int:
    """Sum of all 8-byte words, each times an odd number of its place, modulo 2^64.

    An odd number has an inverse there, so a change of one word always changes the sum.
    """
    total = 0
    flat = tensor.detach().reshape(-1)
    for chunk in torch.split(flat, _CHUNK_BYTES // tensor.element_size()):
        total = (total * _ODD + _checksum_words(_words(chunk))) & _MASK
    return total


def _words(chunk: torch.Tensor) -> Words:
    raw = chunk.contiguous().view(torch.uint8).cpu().numpy()
    padding = -raw.size % _WORD_BYTES
    return np.concatenate([raw, _ZEROS[:padding]]).view(np.uint64) if padding else raw.view(np.uint64)


def _checksum_words(words: Words) -> int:
    whole = words.size // _BLOCK_WORDS * _BLOCK_WORDS
    total = int(np.einsum("j,j->", words[whole:], _ODD_NUMBERS[: words.size - whole]))
    if whole:
        blocks = np.einsum("ij,j->i", words[:whole].reshape(-1, _BLOCK_WORDS), _ODD_NUMBERS)
        total += int(np.einsum("i,i->", blocks, _ODD_NUMBERS[: blocks.size])) * _ODD
    return total & _MASK
