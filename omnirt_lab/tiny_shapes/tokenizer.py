"""A CLIPTokenizer whose merges make one token of each word that captions use."""

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 32
"""Tokens of an encoded caption, start and end included; longer ones are cut."""

Pair = tuple[str, str]


def learn_merges(words: Iterable[str]) -> list[Pair]:
    """Merge the most frequent pair of neighbours until every word is one token.

    This is byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909, algorithm 1) without a limit
    on the number of merges. Ties are broken by the alphabet, so the result depends on the words alone.
    """
    spellings = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges: list[Pair] = []
    while pairs := Counter(pair for parts in spellings for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spellings = [_merge(parts, best) for parts in spellings]
    return merges


def build_tokenizer(words: Iterable[str]) -> CLIPTokenizer:
    """Build the tokenizer; a word that it does not know becomes single letters or bytes, never an error."""
    merges = learn_merges(words)
    return CLIPTokenizer(vocab=_vocabulary(merges), merges=merges, model_max_length=MAX_TOKENS)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save the tokenizer, with the two files that transformers 4 reads beside the one that transformers 5 reads."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _merge(parts: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _vocabulary(merges: list[Pair]) -> dict[str, int]:
    """Number the 256 byte letters, the same at the end of a word, the merges, start and end."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
