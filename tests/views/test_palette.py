"""Colours can be read: contrast as WCAG 2.1 defines it."""

from __future__ import annotations

import pytest

from omnirt_lab.views import palette

LAB_LIGHT, LAB_DARK = "#ffffff", "#111111"


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1 to 21 (WCAG 2.1, relative luminance)."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [palette.INK, palette.MUTED, palette.ALERT, palette.GOOD, palette.CAUTION])
def test_text_on_the_card_reaches_4_5(colour: str):
    assert contrast(colour, palette.CARD) >= 4.5


def test_text_on_a_transparent_figure_can_be_read_on_light_and_on_dark():
    """No grey reaches 4.5 on both; the best possible is 4.35."""
    assert contrast(palette.NEUTRAL, LAB_LIGHT) >= 3.9
    assert contrast(palette.NEUTRAL, LAB_DARK) >= 3.9


@pytest.mark.parametrize(
    "colour", [palette.LOAD, palette.ENCODE, palette.DENOISE, palette.DECODE, palette.OTHER, palette.MEMORY]
)
def test_bars_stand_out_from_light_and_dark(colour: str):
    assert contrast(colour, LAB_LIGHT) >= 2.0
    assert contrast(colour, LAB_DARK) >= 3.0


def test_neighbouring_steps_differ_in_brightness_too():
    assert contrast(palette.DENOISE, palette.DENOISE_LIGHT) >= 2.0


def test_a_stage_has_the_colour_of_what_it_does():
    assert palette.stage_colour("text_encoder_2") == palette.ENCODE
    assert palette.stage_colour("vae_encode") == palette.DECODE
    assert palette.stage_colour("denoise") == palette.DENOISE
    assert palette.stage_colour("something_else") == palette.OTHER
