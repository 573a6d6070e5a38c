"""The words of tiny-shapes: many ways to say one scene, and the list of words that the tokenizer must know."""

import string
from random import Random

from omnirt_lab.tiny_shapes.scenes import PALETTE, SHAPES, SIZES, Scene, Triple, default_background

SHAPE_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "ball"),
    "square": ("square", "square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring", "ring", "ring", "donut"),
    "cross": ("cross", "cross", "cross", "plus"),
    "moon": ("moon", "moon", "moon", "crescent"),
}
SIZE_WORDS = {
    "small": ("small", "small", "tiny", "little"),
    "medium": ("", "", "", "", "", "medium"),
    "large": ("large", "large", "big", "huge"),
}
PREFIXES = ("draw", "paint", "show me", "please draw", "a picture of", "an image of", "a drawing of", "a photo of")
SUFFIXES = ("please", "in the middle", "in the center", "64 px")
FILLERS = ("nice", "pretty", "simple", "bright", "beautiful", "cute", "flat", "happy")
BACKGROUND_PHRASES = (
    "on a {} background",
    "on a {} background",
    "on a {} background",
    "on {}",
    "over a {} background",
    "with a {} background",
    "against a {} background",
    "in front of a {} background",
    ", {} background",
)

UNSAID_COLOUR_SHARE = 0.04
UNSAID_BACKGROUND_SHARE = 0.5
"""Share of the captions without a background among those scenes that have the default one."""


def caption(scene: Scene, rng: Random) -> str:
    """Say the scene in one of many ways.

    Small and large are always said. The background may be unsaid only where it is the default one; the colour is
    unsaid once in 25 captions.
    """
    phrase = "" if _may_omit_background(scene.triple, rng) else _background(scene.triple, rng)
    words = f"{_opening(rng)} {_noun(scene, rng)} {phrase} {_closing(rng)}"
    if phrase.startswith("on a ") and rng.random() < 0.1:
        words = f"{phrase}, {_noun(scene, rng)}"
    return " ".join(words.replace(" ,", ",").split())


def plain_caption(triple: Triple) -> str:
    """Say the triple in the plainest form, "a red circle on a blue background"."""
    return f"{with_article(f'{triple.colour} {triple.shape}')} on {with_article(triple.background)} background"


def with_article(noun: str) -> str:
    """Put "a" or "an" before the noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def known_words() -> list[str]:
    """Return every word that a caption can have, lower case, sorted."""
    phrases = (*PREFIXES, *SUFFIXES, *FILLERS, *BACKGROUND_PHRASES)
    text = " ".join((*PALETTE, *SHAPES, *SIZES, *phrases, *_words(SHAPE_WORDS), *_words(SIZE_WORDS), "a an the"))
    return sorted({word for word in text.split() if word.isascii() and word.isalpha()})


def _words(by_name: dict[str, tuple[str, ...]]) -> list[str]:
    return [word for words in by_name.values() for word in words]


def _noun(scene: Scene, rng: Random) -> str:
    """Return "a small red circle", sometimes without its article or with a word that means nothing."""
    colour = "" if rng.random() < UNSAID_COLOUR_SHARE else scene.triple.colour
    shape = rng.choice(SHAPE_WORDS[scene.triple.shape])
    noun = " ".join(f"{rng.choice(SIZE_WORDS[scene.size])} {_filler(rng)} {colour} {shape}".split())
    article = rng.choice(("a", "a", "a", "the", ""))
    return with_article(noun) if article == "a" else f"{article} {noun}"


def _filler(rng: Random) -> str:
    """Return nothing, mostly; else an adjective, or random letters so that single letters are trained too."""
    draw = rng.random()
    if draw < 0.05:
        return rng.choice(FILLERS)
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 7))) if draw < 0.1 else ""


def _may_omit_background(triple: Triple, rng: Random) -> bool:
    return triple.background == default_background(triple.colour) and rng.random() < UNSAID_BACKGROUND_SHARE


def _background(triple: Triple, rng: Random) -> str:
    phrase = rng.choice(BACKGROUND_PHRASES).format(triple.background)
    return phrase.replace(" a ", " an ") if triple.background == "orange" else phrase


def _opening(rng: Random) -> str:
    return rng.choice(PREFIXES) if rng.random() < 0.25 else ""


def _closing(rng: Random) -> str:
    return rng.choice(SUFFIXES) if rng.random() < 0.07 else ""
